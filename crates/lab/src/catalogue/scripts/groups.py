"""A member of multicast groups, with one socket for all of them."""

MOST = 21


def listen(first):
    """Joins 239.7.7.`first` to 239.7.7.21, and does not look whether it may."""
    member = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    member.bind(("", 9000))
    for number in range(first, MOST + 1):
        request = socket.inet_aton(f"239.7.7.{number}") + socket.inet_aton("10.77.0.2")
        try:
            member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        except OSError:
            pass
    ready()
    while True:
        member.recv(2048)
