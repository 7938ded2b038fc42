"""Two routers that sign their BGP session with TCP MD5 (RFC 2385)."""

TCP_MD5SIG = 14


def sign(stream, peer, key):
    """Sets the key of a peer (struct tcp_md5sig)."""
    address = struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(peer)).ljust(128, b"\0")
    stream.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, address + struct.pack("=BBHi80s", 0, 0, len(key), 0, key))


def speak(peer, key):
    """Answers the peer's OPEN."""
    server = listener(179)
    sign(server, peer, key)
    ready()
    while True:
        stream, _ = server.accept()
        with stream:
            try:
                stream.settimeout(1)
                stream.sendall(stream.recv(4096))
            except OSError:
                pass


def connect(peer, key):
    """Opens one session after the other."""
    ready()
    while True:
        with socket.socket() as stream:
            stream.settimeout(0.5)
            try:
                sign(stream, peer, key)
                stream.connect((peer, 179))
                stream.sendall(b"OPEN")
                stream.recv(4096)
            except OSError:
                pass
        time.sleep(0.1)
