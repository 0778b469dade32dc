"""Probes that try to leave the tor lane by every door, and the eyes that would see them do it."""

import ipaddress
import socket
import struct
import threading

from lab import DNS, GATEWAY, INSIDE, WEB, inside

WEB6, GATEWAY6, ROUTER6 = "2001:db8:80::80", "2001:db8:1::2", "2001:db8:1::1"
VPN4, TOR4 = "10.8.0.0/24", "10.9.0.0/24"
VPN6, TOR6 = "fd10:8::/64", "fd10:9::/64"
LANES = [ipaddress.ip_network(text) for text in (VPN4, TOR4, VPN6, TOR6)]
RELAYS, CLIENTS = ipaddress.ip_network("10.99.0.0/24"), ipaddress.ip_network("203.0.113.0/24")
HOST_UDP, HOST_TCP = 9999, (22, 9051)
MARK = b"<probe:"
QUESTION = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\3www\7example\3org\0\0\1\0\1"
OUTGOING = 4
NEIGHBOUR_TYPES = {130, 131, 132, 133, 134, 135, 136, 143}


def is_lane(address):
    return any(address in net for net in LANES)


# Packets --------------------------------------------------------------------------------------------------------------

def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def ip4(source, to, protocol, payload, number=0, fragment=0):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), number, fragment, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(to))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ip6(source, to, protocol, payload):
    return struct.pack("!IHBB", 0x60000000, len(payload), protocol, 64) + socket.inet_pton(socket.AF_INET6, source) + \
        socket.inet_pton(socket.AF_INET6, to) + payload


def summed(source, to, protocol, segment, at):
    """A segment with its checksum filled in at an offset; both families."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    pseudo = socket.inet_pton(family, source) + socket.inet_pton(family, to)
    pseudo += struct.pack("!I3xB", len(segment), protocol) if ":" in to else struct.pack("!BBH", 0, protocol, len(segment))
    return segment[:at] + struct.pack("!H", checksum(pseudo + segment) or 0xffff) + segment[at + 2:]


def wrap(source, to, protocol, payload):
    return ip6(source, to, protocol, payload) if ":" in to else ip4(source, to, protocol, payload)


def udp(source, to, port, text, own):
    segment = struct.pack("!HHHH", own, port, 8 + len(text), 0) + text
    return wrap(source, to, 17, summed(source, to, 17, segment, 6))


def syn(source, to, port, text, own):
    segment = struct.pack("!HHIIBBHHH", own, port, 1000, 0, 0x50, 2, 64000, 0, 0) + text
    return wrap(source, to, 6, summed(source, to, 6, segment, 16))


def echo(source, to, text, own):
    if ":" in to:
        return ip6(source, to, 58, summed(source, to, 58, struct.pack("!BBHHH", 128, 0, 0, own, 1) + text, 2))
    body = struct.pack("!BBHHH", 8, 0, 0, own, 1) + text
    return ip4(source, to, 1, body[:2] + struct.pack("!H", checksum(body)) + body[4:])


class Probes:
    """Every door, tried by one device. What each would reach if the lane were open: the `world`, the `host`, another
    `device`, or `nothing`, as WireGuard itself or the kernel refuses it on the way."""

    def __init__(self, client, v6, others):
        self.client, self.v6, self.others = client, v6, others
        self.v4 = client.tunnel["tor"]["ip"]
        self.other_lane = client.tunnel["vpn"]["ip"]
        self.interface = client.interface
        with inside(client.namespace):
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self.rounds = 0
        self.lock = threading.Lock()
        self.open_connections = []

    def packets(self, turn, base):
        """(name, reach, packet) of each."""
        out, v4, v6 = [], self.v4, self.v6

        def mark(name):
            return MARK + f"{turn}:{name}>".encode() + b"." * 24

        def add(name, reach, make, *words, before=b""):
            out.append((name, reach, make(*words, before + mark(name), base + len(out))))

        for family, me, web in (("v4", v4, WEB), ("v6", v6, WEB6)):
            add(f"icmp-{family}", "world", echo, me, web)
            for name, port in (("udp-high", 33434), ("quic", 443), ("ntp", 123), ("dns", 53), ("dns-tls", 853), ("wireguard", 51820)):
                add(f"{name}-{family}", "world", udp, me, web, port)
            for port in (22, 25, 53, 80, 443, 853, 6667, 9001):
                add(f"tcp-{port}-{family}", "world", syn, me, web, port)
            for protocol in (47, 50, 132, 253):
                name = f"protocol-{protocol}-{family}"
                out.append((name, "world", wrap(me, web, protocol, struct.pack("!HHI", 0, 0x0800, 0) + mark(name))))
        add("dns-of-the-lab", "world", udp, v4, DNS, 53, before=QUESTION)
        # A relay of Tor: reached by tor itself, and by nobody else.
        add("tor-relay", "world", syn, v4, "10.99.0.11", 9001)
        add("uplink-neighbour", "world", echo, v4, "198.51.100.1")
        # Two fragments and a first one that never ends.
        whole = udp(v4, WEB, 4444, mark("fragments") + b"f" * 1400, base + 90)[20:]
        out.append(("fragments", "world", ip4(v4, WEB, 17, whole[:1200], 77, 0x2000)))
        out.append((None, "world", ip4(v4, WEB, 17, whole[1200:], 77, 1200 // 8)))
        out.append(("half-a-packet", "nothing", ip4(v4, WEB, 17, udp(v4, WEB, 4445, mark("half-a-packet") + b"f" * 400, base + 91)[20:], 78, 0x2000)))
        # Loose source route through the uplink's neighbour.
        body = mark("source-route")
        option = b"\x83\x07\x04" + socket.inet_aton(WEB) + b"\0"
        head = struct.pack("!BBHHHBBH4s4s", 0x47, 0, 28 + len(body), 0, 0, 64, 253, 0, socket.inet_aton(v4), socket.inet_aton("198.51.100.1")) + option
        out.append(("source-route", "nothing", head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body))
        # Addresses that are not ours.
        for name, source in (("spoofed-world", "203.0.113.250"), ("spoofed-vpn", self.other_lane), ("spoofed-gateway", GATEWAY), ("spoofed-lane", "10.9.0.1")):
            add(name, "nothing", udp, source, WEB, 5555)
        add("spoofed-v6", "nothing", udp, "2001:db8:66::1", WEB6, 5555)
        # The host.
        for name, to in (("lane", "10.9.0.1"), ("other-lane", "10.8.0.1"), ("uplink", GATEWAY), ("inside", INSIDE), ("uplink6", GATEWAY6)):
            add(f"host-{name}", "host", udp, v6 if ":" in to else v4, to, HOST_UDP)
        for name, to in (("loopback", "127.0.0.1"), ("loopback-high", "127.9.9.9"), ("broadcast", "255.255.255.255"),
                         ("multicast", "224.0.0.251"), ("link-local4", "169.254.169.254")):
            add(name, "world" if name == "link-local4" else "nothing", udp, v4, to, HOST_UDP)
        for name, to in (("link-local6", "fe80::1"), ("all-nodes", "ff02::1"), ("loopback6", "::1"), ("global-multicast", "ff0e::1")):
            add(name, "nothing", udp, v6, to, HOST_UDP)
        # Other devices.
        for i, to in enumerate(self.others):
            add(f"device-{i}", "device", udp, v6 if ":" in to else v4, to, 7777)
        return out

    def send(self, base=40000):
        """One round of all of them. Returns {name: reach} and the number of the round."""
        with self.lock:
            self.rounds += 1
            turn = self.rounds
            sent = {}
            for name, reach, packet in self.packets(turn, base):
                protocol = 0x86dd if packet[0] >> 4 == 6 else 0x0800
                self.sock.sendto(packet, (self.interface, protocol))
                if name:
                    sent[name] = reach
            return turn, sent

    def knock(self):
        """Real connections to what listens on the host; they are left open until `close`."""
        with inside(self.client.namespace):
            for to in ("10.9.0.1", "10.8.0.1", GATEWAY, INSIDE, "127.0.0.1"):
                for port in (*HOST_TCP, 9040, 9041, 9053):
                    if to == "127.0.0.1":
                        continue  # stays in the device; the raw packets go there
                    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                    sock.setblocking(False)
                    sock.connect_ex((to, port))
                    self.open_connections.append(sock)

    def hang_up(self):
        for sock in self.open_connections:
            sock.close()
        self.open_connections = []

    def close(self):
        self.hang_up()
        self.sock.close()


# Eyes -----------------------------------------------------------------------------------------------------------------

class Eyes:
    """Sees every packet of the gateway, of the router behind it and of another device, from the first to the last of a
    class."""

    def __init__(self, beside):
        self.leaks, self.arrived, self.marked = [], {}, {}
        self.beside = set()  # probes that came out at the other device
        self.frames = 0
        self.relays = set()
        self.running = True
        self.socks = []
        for namespace in ("gw", "net", beside):
            with inside(namespace):
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
            sock.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
            sock.settimeout(0.05)
            self.socks.append((namespace, sock))
        self.listeners = []
        with inside("gw"):
            for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                self._listen(family, socket.SOCK_DGRAM, address, HOST_UDP)
                for port in HOST_TCP:
                    self._listen(family, socket.SOCK_STREAM, address, port)
        self.threads = [threading.Thread(target=self._look, args=pair, daemon=True) for pair in self.socks]
        for thread in self.threads:
            thread.start()

    def _listen(self, family, kind, address, port):
        sock = socket.socket(family, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        if kind == socket.SOCK_STREAM:
            sock.listen(64)
        sock.setblocking(False)
        self.listeners.append(sock)

    def _look(self, namespace, sock):
        while self.running:
            try:
                packet, place = sock.recvfrom(65535)
            except (TimeoutError, socket.timeout):
                continue
            except OSError:
                return
            if len(packet) >= 20 and packet[0] >> 4 in (4, 6):
                self.frames += 1
                self._judge(namespace, place[0], place[2] == OUTGOING, packet)

    def _judge(self, namespace, interface, leaving, packet):
        four = packet[0] >> 4 == 4
        if not four and len(packet) < 40:
            return
        source = ipaddress.ip_address(packet[12:16] if four else packet[8:24])
        to = ipaddress.ip_address(packet[16:20] if four else packet[24:40])
        at = packet.find(MARK)
        turn, name = None, None
        if at >= 0:
            turn, _, name = packet[at + len(MARK):packet.find(b">", at)].decode(errors="replace").partition(":")
        if namespace == "net":
            # What comes from the gateway; exits come by another cable.
            if interface == "togw" and not leaving and (name or is_lane(source)):
                self._leak("at the router", turn, name, source, to)
        elif namespace != "gw":
            if name and not leaving:
                self.beside.add(name)
                self.marked.setdefault(int(turn), set()).add(name)
        elif interface.startswith("wg"):
            if name and not leaving:
                self.arrived.setdefault(int(turn), set()).add(name)
        elif interface == "eth0" and leaving:
            why = self._forbidden(four, source, to, packet)
            if why or name:
                self._leak(why or "a probe", turn, name, source, to)

    def _forbidden(self, four, source, to, packet):
        """The gateway sends to relays, for tor, and to devices, for WireGuard and the API; and nothing else."""
        if is_lane(source):
            return "a lane address"
        protocol = packet[9] if four else packet[6]
        if not four:
            kind = packet[48] if protocol == 0 and len(packet) > 48 else packet[40] if len(packet) > 40 else 0
            return None if protocol in (0, 58) and kind in NEIGHBOUR_TYPES else "IPv6"
        if protocol == 2 or to in CLIENTS:
            return None
        if str(source) not in (GATEWAY, INSIDE):
            return "an address that is not the gateway's"
        if to in RELAYS and protocol == 6:
            self.relays.add(str(to))
            return None
        return "the gateway's own address"

    def _leak(self, why, turn, name, source, to):
        self.leaks.append((why, name, str(source), str(to)))
        if name:
            self.marked.setdefault(int(turn), set()).add(name)

    def host(self):
        """What got through to programs of the host since the last call: names of probes, and addresses of peers."""
        names, peers = set(), set()
        for sock in self.listeners:
            try:
                while True:
                    if sock.type == socket.SOCK_DGRAM:
                        data, peer = sock.recvfrom(2048)
                        if data.startswith(MARK):
                            names.add(data[len(MARK):data.find(b">")].decode().partition(":")[2])
                    else:
                        accepted, peer = sock.accept()
                        accepted.close()
                        peers.add(peer[0])
            except BlockingIOError:
                pass
        return names, {peer for peer in peers if is_lane(ipaddress.ip_address(peer)) or peer.startswith("127.")}

    def dropped(self):
        """Packets that came too fast to be looked at."""
        return sum(struct.unpack("II", sock.getsockopt(263, 6, 8))[1] for _, sock in self.socks)

    def close(self):
        self.running = False
        for thread in self.threads:
            thread.join(2)
        for sock in [sock for _, sock in self.socks] + self.listeners:
            sock.close()
