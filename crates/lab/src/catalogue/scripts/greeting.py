"""A mail server, which speaks first, and its clients."""


def greet(defer):
    """Greets who connects; `defer`: the kernel hands over only who has sent something (TCP_DEFER_ACCEPT)."""
    server = listener(25)
    if defer:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
    ready()
    while True:
        stream, _ = server.accept()
        with stream:
            try:
                stream.settimeout(1)
                stream.sendall(b"220 ready\r\n")
                stream.recv(4096)
            except OSError:
                pass


def visit(to):
    """Four clients that wait two seconds for the greeting."""
    for _ in range(4):
        threading.Thread(target=wait_for_greeting, args=(to,), daemon=True).start()
    ready()
    signal.pause()


def wait_for_greeting(to):
    """One connection after the other."""
    while True:
        with socket.socket() as stream:
            stream.settimeout(2)
            try:
                stream.connect((to, 25))
                stream.recv(4096)
                stream.sendall(b"QUIT\r\n")
            except OSError:
                pass
        time.sleep(0.3)
