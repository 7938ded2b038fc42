"""A web server whose socket is bound to a device."""


def run(device):
    """Serves what comes by it."""
    server = listener(device=device)
    ready()
    serve(server)
