"""Who takes an upload, and who sends it."""


def take(reads):
    """Accepts uploads; reads them, or not."""
    server = listener(9000)
    ready()
    held = []
    while True:
        stream, _ = server.accept()
        held.append(stream)
        if reads:
            threading.Thread(target=drain, args=(stream,), daemon=True).start()


def drain(stream):
    """Reads to the end."""
    with stream:
        try:
            while stream.recv(1 << 16):
                pass
        except OSError:
            pass


def send(to):
    """Uploads 3 MB a second, and begins again when it fails."""
    ready()
    while True:
        try:
            with socket.create_connection((to, 9000), 1) as stream:
                stream.settimeout(None)
                while True:
                    stream.sendall(bytes(1 << 16))
                    time.sleep(0.02)
        except OSError:
            time.sleep(0.1)
