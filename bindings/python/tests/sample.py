"""What a user of the package writes; checked by mypy --strict, and run."""
from typing import Dict, List, Optional

import tornadovpn


def names(client: tornadovpn.ControlClient) -> List[str]:
    return [user["username"] for user in client.user_list(limit=10)]


def addresses(tunnel: tornadovpn.DeviceTunnel) -> Dict[str, str]:
    return {name: lane.address for name, lane in tunnel.lanes.items()}


def last_event(client: tornadovpn.ControlClient) -> Optional[tornadovpn.Event]:
    stream = client.events(after=0)
    try:
        return stream.wait(5)
    finally:
        stream.close()


def refused(client: tornadovpn.ControlClient) -> Optional[int]:
    try:
        client.user_show(name="nobody")
    except tornadovpn.NotFound as error:
        text: str = error.code
        return len(text)
    return None


def main() -> int:
    with tornadovpn.Gateway({"session.heartbeat_ttl": 30}) as gateway:
        user = gateway.add_user("alice", "alice@example.org", "correct horse", max_devices=2)
        client = gateway.control_client()
        device = tornadovpn.DeviceClient(gateway.url)
        login = device.login(user.username, "correct horse")
        tunnel = device.initiate("hGL7PweY+f4sOfOCO7Qc0+/+cLtcgXNb5GoUMTXFhFQ=")
        good = names(client) == ["alice"] and set(addresses(tunnel)) == {"vpn", "tor"}
        event = last_event(client)
        good = good and event is not None and event.sequence == 1 and refused(client) == len("not_found")
        good = good and gateway.sessions()[0].device == login.device_id
        return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
