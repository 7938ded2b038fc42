"""A web server that may hold a few descriptors only."""

LIMIT = 32


def run(leaks):
    """`leaks`: it has forgotten to close connections whose clients are gone, until none more can be accepted."""
    server = listener()
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    forgotten = []
    while leaks:
        client = socket.create_connection(("127.0.0.1", 80))
        try:
            forgotten.append(server.accept()[0])
            client.close()
        except OSError:
            # The client itself has the last one.
            client.close()
            forgotten.append(server.accept()[0])
            break
    ready()
    while True:
        try:
            stream, _ = server.accept()
        except OSError:
            # As Go does: it tries again after a while.
            time.sleep(0.1)
            continue
        with stream:
            answer(stream)
