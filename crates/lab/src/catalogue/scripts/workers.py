"""A web server with four workers that read a request to its end, and clients whose requests have none."""


def work():
    """Serves."""
    server = listener()
    for _ in range(4):
        threading.Thread(target=serve, args=(server,), daemon=True).start()
    ready()
    signal.pause()


def drip(to):
    """Eight connections, each with one byte of a header every half a second."""
    ready()
    streams = [None] * 8
    while True:
        for number, stream in enumerate(streams):
            try:
                if stream is None:
                    streams[number] = stream = socket.create_connection((to, 80), 1)
                    stream.sendall(b"GET / HTTP/1.1\r\nX-Comment: ")
                stream.sendall(b"x")
            except OSError:
                streams[number] = None
        time.sleep(0.5)
