"""A program that sends by one UDP socket for ever, as most that send logs do."""


def send(to, port):
    """Ten datagrams a second, each of which is answered."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("", port))
    sender.settimeout(0.1)
    ready()
    while True:
        began = time.monotonic()
        try:
            sender.sendto(b"<14>lab: still alive", (to, port))
            sender.recv(2048)
        except OSError:
            pass
        time.sleep(max(0, began + 0.1 - time.monotonic()))
