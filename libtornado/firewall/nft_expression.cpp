#include "firewall/nft_expression.hpp"

#include <arpa/inet.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <cstring>

namespace tornado::inline v1::nft {
namespace {

using namespace rule;

constexpr std::size_t interface_size = 16;
constexpr std::uint32_t tcp_option_mss = 2;
constexpr std::uint8_t tcp_syn = 2, tcp_rst = 4;

std::string bytes_of(const void* data, std::size_t size) {
  return std::string(static_cast<const char*>(data), size);
}

/// Values the virtual machine keeps in host order.
std::string host_word(std::uint32_t value) {
  return bytes_of(&value, sizeof value);
}

std::string network_port(std::uint16_t port) {
  std::uint16_t network = htons(port);
  return bytes_of(&network, sizeof network);
}

std::string mask_of(int length, std::size_t size) {
  std::string mask(size, '\0');
  for (int bit = 0; bit < length; ++bit)
    mask[static_cast<std::size_t>(bit / 8)] =
        static_cast<char>(static_cast<unsigned char>(mask[static_cast<std::size_t>(bit / 8)]) | 128 >> bit % 8);
  return mask;
}

/// Loads into register 1 and compares there; concatenations go on in the registers behind it.
class Emitter {
 public:
  explicit Emitter(nftnl_rule& out) : out_(out) {}

  void operator()(const Interface& e) {
    meta(e.path == Path::in ? NFT_META_IIFNAME : NFT_META_OIFNAME);
    compare(interface_key(e.name), e.negated ? NFT_CMP_NEQ : NFT_CMP_EQ);
  }

  void operator()(const InterfaceSet& e) {
    meta(e.path == Path::in ? NFT_META_IIFNAME : NFT_META_OIFNAME);
    lookup(e.set, e.negated);
  }

  void operator()(const Network& e) {
    bool v6 = !e.prefix.base().is_v4();
    family(v6);
    std::string base(e.prefix.base().bytes());
    auto size = static_cast<std::uint32_t>(base.size());
    std::uint32_t source = v6 ? 8 : 12;
    payload(NFT_PAYLOAD_NETWORK_HEADER, e.side == Side::source ? source : source + size, size);
    if (e.prefix.length() < static_cast<int>(8 * size)) mask(mask_of(e.prefix.length(), size));
    compare(base);
  }

  void operator()(const rule::Family& e) { family(e.v6); }
  void operator()(const Transport& e) { transport(e.protocol); }

  void operator()(const Port& e) {
    transport(e.protocol);
    payload(NFT_PAYLOAD_TRANSPORT_HEADER, port_offset(e.side), 2);
    compare(network_port(e.port));
  }

  void operator()(const Destination& e) {
    family(e.v6);
    transport(Protocol::tcp);
    payload(NFT_PAYLOAD_NETWORK_HEADER, e.v6 ? 24 : 16, e.v6 ? 16 : 4);
    // 32-bit registers; register 1 of 128 bits is the first four of them.
    payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, e.v6 ? NFT_REG32_04 : NFT_REG32_01);
    lookup(e.set, false);
  }

  void operator()(const Echo& e) {
    family(e.v6);
    transport(e.v6 ? Protocol::icmpv6 : Protocol::icmp);
    payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1);
    if (e.v6)
      compare(std::string(1, static_cast<char>(e.reply ? 129 : 128)));
    else
      compare(std::string(1, static_cast<char>(e.reply ? 0 : 8)));
  }

  void operator()(const Tracked& e) {
    std::uint32_t states = 0;
    if (e.fresh) states |= 1U << (IP_CT_NEW + 1);
    if (e.established) states |= 1U << (IP_CT_ESTABLISHED + 1);
    if (e.related) states |= 1U << (IP_CT_RELATED + 1);
    connection(NFT_CT_STATE);
    mask(host_word(states));
    compare(host_word(0), NFT_CMP_NEQ);
  }

  void operator()(const Reply&) {
    connection(NFT_CT_DIRECTION);
    compare(std::string(1, '\1'));
  }

  void operator()(const Syn&) {
    transport(Protocol::tcp);
    payload(NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1);
    mask(std::string(1, static_cast<char>(tcp_syn | tcp_rst)));
    compare(std::string(1, static_cast<char>(tcp_syn)));
  }

  void operator()(const ClampMss&) {
    nftnl_expr* route = add("rt");
    nftnl_expr_set_u32(route, NFTNL_EXPR_RT_KEY, NFT_RT_TCPMSS);
    nftnl_expr_set_u32(route, NFTNL_EXPR_RT_DREG, NFT_REG_1);
    nftnl_expr* order = add("byteorder");
    nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_SREG, NFT_REG_1);
    nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_DREG, NFT_REG_1);
    nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_OP, NFT_BYTEORDER_HTON);
    nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_LEN, 2);
    nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_SIZE, 2);
    nftnl_expr* option = add("exthdr");
    nftnl_expr_set_u32(option, NFTNL_EXPR_EXTHDR_SREG, NFT_REG_1);
    nftnl_expr_set_u8(option, NFTNL_EXPR_EXTHDR_TYPE, tcp_option_mss);
    nftnl_expr_set_u32(option, NFTNL_EXPR_EXTHDR_OFFSET, 2);
    nftnl_expr_set_u32(option, NFTNL_EXPR_EXTHDR_LEN, 2);
    nftnl_expr_set_u32(option, NFTNL_EXPR_EXTHDR_OP, NFT_EXTHDR_OP_TCPOPT);
  }

  void operator()(const MarkSource& e) {
    payload(NFT_PAYLOAD_NETWORK_HEADER, e.v6 ? 20 : 12, 4);
    if (e.v6)
      mask(std::string("\x00\xff\xff\xff", 4), std::string(1, static_cast<char>(e.lane)) + std::string(3, '\0'));
    nftnl_expr* mark = add("ct");
    nftnl_expr_set_u32(mark, NFTNL_EXPR_CT_KEY, NFT_CT_MARK);
    nftnl_expr_set_u32(mark, NFTNL_EXPR_CT_SREG, NFT_REG_1);
  }

  void operator()(const Opening&) {
    connection(NFT_CT_STATUS);
    mask(host_word(IPS_CONFIRMED));
    compare(host_word(0));
  }

  void operator()(const Translated&) {
    connection(NFT_CT_STATUS);
    mask(host_word(IPS_DST_NAT));
    compare(host_word(0), NFT_CMP_NEQ);
  }

  void operator()(const ConnectionsOver& e) {
    family(e.v6);
    payload(NFT_PAYLOAD_NETWORK_HEADER, e.v6 ? 8 : 12, e.v6 ? 16 : 4);
    nftnl_expr* limit = nftnl_expr_alloc("connlimit");
    nftnl_expr_set_u32(limit, NFTNL_EXPR_CONNLIMIT_COUNT, e.limit);
    nftnl_expr_set_u32(limit, NFTNL_EXPR_CONNLIMIT_FLAGS, NFT_CONNLIMIT_F_INV);
    nftnl_expr* set = add("dynset");
    nftnl_expr_set_str(set, NFTNL_EXPR_DYNSET_SET_NAME, e.set.c_str());
    nftnl_expr_set_u32(set, NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_ADD);
    nftnl_expr_set_u32(set, NFTNL_EXPR_DYNSET_SREG_KEY, NFT_REG_1);
    nftnl_expr_set(set, NFTNL_EXPR_DYNSET_EXPR, limit, 0);
  }

  void operator()(const AddressSet& e) {
    family(e.v6);
    address(e.side, e.v6, NFT_REG_1);
    lookup(e.set, false);
  }

  void operator()(const FindClass& e) {
    family(e.v6);
    address(e.side, e.v6, NFT_REG_1);
    nftnl_expr* lookup = add("lookup");
    nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
    nftnl_expr_set_str(lookup, NFTNL_EXPR_LOOKUP_SET, e.map.c_str());
    nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_DREG, NFT_REG_1);
    set_priority();
  }

  void operator()(const SetClass& e) {
    immediate(NFT_REG_1, host_word(e.access_class));
    set_priority();
  }

  void operator()(const OfClass& e) {
    meta(NFT_META_PRIORITY);
    compare(host_word(e.access_class));
  }

  void operator()(const GrantedPort& e) {
    family(e.v6);
    meta(NFT_META_PRIORITY);
    meta(NFT_META_L4PROTO, NFT_REG32_01);
    payload(NFT_PAYLOAD_TRANSPORT_HEADER, port_offset(e.side), 2, NFT_REG32_02);
    lookup(e.set, false);
  }

  /// The kernel compares ranges byte by byte: numbers are in network order there.
  void operator()(const GrantedPlace& e) {
    family(e.v6);
    meta(NFT_META_PRIORITY);
    network_order(NFT_REG_1, 4, 4);
    address(e.side, e.v6, NFT_REG32_01);
    std::uint32_t next = e.v6 ? NFT_REG32_05 : NFT_REG32_02;
    meta(NFT_META_L4PROTO, next);
    network_order(next, 2, 1);
    payload(NFT_PAYLOAD_TRANSPORT_HEADER, port_offset(e.side), 2, next + 1);
    lookup(e.set, false);
  }

  void operator()(const GrantedEcho& e) {
    meta(NFT_META_PRIORITY);
    network_order(NFT_REG_1, 4, 4);
    address(e.side, e.v6, NFT_REG32_01);
    lookup(e.set, false);
  }

  void operator()(const Translate& e) {
    immediate(NFT_REG_1, std::string(e.to.address.bytes()));
    immediate(NFT_REG_2, network_port(e.to.port));
    nftnl_expr* nat = add("nat");
    nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_TYPE, NFT_NAT_DNAT);
    nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_FAMILY, e.to.address.is_v4() ? NFPROTO_IPV4 : NFPROTO_IPV6);
    nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG_1);
    nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_REG_PROTO_MIN, NFT_REG_2);
  }

  void operator()(const Reset&) {
    nftnl_expr* reject = add("reject");
    nftnl_expr_set_u32(reject, NFTNL_EXPR_REJECT_TYPE, NFT_REJECT_TCP_RST);
    nftnl_expr_set_u8(reject, NFTNL_EXPR_REJECT_CODE, 0);
  }

  void operator()(const Masquerade&) { add("masq"); }
  void operator()(const Counter&) { add("counter"); }

  void operator()(const Verdict& e) {
    nftnl_expr* verdict = add("immediate");
    nftnl_expr_set_u32(verdict, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
    nftnl_expr_set_u32(verdict, NFTNL_EXPR_IMM_VERDICT, static_cast<std::uint32_t>(code_of(e.kind)));
    if (!e.chain.empty()) nftnl_expr_set_str(verdict, NFTNL_EXPR_IMM_CHAIN, e.chain.c_str());
  }

 private:
  static int code_of(VerdictKind kind) {
    switch (kind) {
      case VerdictKind::accept:
        return NF_ACCEPT;
      case VerdictKind::jump:
        return NFT_JUMP;
      case VerdictKind::go:
        return NFT_GOTO;
      default:
        return NF_DROP;
    }
  }

  nftnl_expr* add(const char* kind) {
    nftnl_expr* expression = nftnl_expr_alloc(kind);
    nftnl_rule_add_expr(&out_, expression);
    return expression;
  }

  void meta(std::uint32_t key, std::uint32_t target = NFT_REG_1) {
    nftnl_expr* load = add("meta");
    nftnl_expr_set_u32(load, NFTNL_EXPR_META_KEY, key);
    nftnl_expr_set_u32(load, NFTNL_EXPR_META_DREG, target);
  }

  void set_priority() {
    nftnl_expr* set = add("meta");
    nftnl_expr_set_u32(set, NFTNL_EXPR_META_KEY, NFT_META_PRIORITY);
    nftnl_expr_set_u32(set, NFTNL_EXPR_META_SREG, NFT_REG_1);
  }

  static std::uint32_t port_offset(Side side) { return side == Side::source ? 0 : 2; }

  void address(Side side, bool v6, std::uint32_t target) {
    std::uint32_t source = v6 ? 8 : 12, size = v6 ? 16 : 4;
    payload(NFT_PAYLOAD_NETWORK_HEADER, side == Side::source ? source : source + size, size, target);
  }

  void network_order(std::uint32_t target, std::uint32_t size, std::uint32_t length) {
    nftnl_expr* order = add("byteorder");
    nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_SREG, target);
    nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_DREG, target);
    nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_OP, NFT_BYTEORDER_HTON);
    nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_LEN, length);
    nftnl_expr_set_u32(order, NFTNL_EXPR_BYTEORDER_SIZE, size);
  }

  void connection(std::uint32_t key) {
    nftnl_expr* load = add("ct");
    nftnl_expr_set_u32(load, NFTNL_EXPR_CT_KEY, key);
    nftnl_expr_set_u32(load, NFTNL_EXPR_CT_DREG, NFT_REG_1);
  }

  void payload(std::uint32_t base, std::uint32_t offset, std::uint32_t length, std::uint32_t target = NFT_REG_1) {
    nftnl_expr* load = add("payload");
    nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_BASE, base);
    nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
    nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_LEN, length);
    nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_DREG, target);
  }

  void compare(const std::string& value, std::uint32_t operation = NFT_CMP_EQ) {
    nftnl_expr* compare = add("cmp");
    nftnl_expr_set_u32(compare, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
    nftnl_expr_set_u32(compare, NFTNL_EXPR_CMP_OP, operation);
    nftnl_expr_set(compare, NFTNL_EXPR_CMP_DATA, value.data(), static_cast<std::uint32_t>(value.size()));
  }

  void mask(const std::string& value) { mask(value, std::string(value.size(), '\0')); }

  void mask(const std::string& value, const std::string& flipped) {
    auto size = static_cast<std::uint32_t>(value.size());
    nftnl_expr* bitwise = add("bitwise");
    nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
    nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
    nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_LEN, size);
    nftnl_expr_set(bitwise, NFTNL_EXPR_BITWISE_MASK, value.data(), size);
    nftnl_expr_set(bitwise, NFTNL_EXPR_BITWISE_XOR, flipped.data(), size);
  }

  void lookup(const std::string& set, bool negated) {
    nftnl_expr* lookup = add("lookup");
    nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
    nftnl_expr_set_str(lookup, NFTNL_EXPR_LOOKUP_SET, set.c_str());
    if (negated) nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
  }

  void immediate(std::uint32_t target, const std::string& value) {
    nftnl_expr* load = add("immediate");
    nftnl_expr_set_u32(load, NFTNL_EXPR_IMM_DREG, target);
    nftnl_expr_set(load, NFTNL_EXPR_IMM_DATA, value.data(), static_cast<std::uint32_t>(value.size()));
  }

  /// Offsets into the network header mean nothing before the family is known; once per rule is enough.
  void family(bool v6) {
    if (family_ == v6) return;
    meta(NFT_META_NFPROTO);
    compare(std::string(1, static_cast<char>(v6 ? NFPROTO_IPV6 : NFPROTO_IPV4)));
    family_ = v6;
  }

  void transport(Protocol protocol) {
    if (transport_ == protocol) return;
    meta(NFT_META_L4PROTO);
    compare(std::string(1, static_cast<char>(protocol)));
    transport_ = protocol;
  }

  nftnl_rule& out_;
  std::optional<bool> family_;
  std::optional<Protocol> transport_;
};

}  // namespace

std::string interface_key(const std::string& name) {
  std::string key = name.substr(0, interface_size - 1);
  key.resize(interface_size, '\0');
  return key;
}

nftnl_expr* rate_limit(std::uint64_t rate) {
  nftnl_expr* limit = nftnl_expr_alloc("limit");
  nftnl_expr_set_u64(limit, NFTNL_EXPR_LIMIT_RATE, rate);
  nftnl_expr_set_u64(limit, NFTNL_EXPR_LIMIT_UNIT, 1);
  nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_BURST, static_cast<std::uint32_t>(burst_of(rate)));
  nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKT_BYTES);
  nftnl_expr_set_u32(limit, NFTNL_EXPR_LIMIT_FLAGS, NFT_LIMIT_F_INV);
  return limit;
}

void append_expressions(nftnl_rule& out, const Rule& rule) {
  Emitter emit(out);
  for (const Expression& expression : rule) std::visit(emit, expression);
}

}  // namespace tornado::inline v1::nft
