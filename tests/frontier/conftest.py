from tests.proof.conftest import head, net, painted

__all__ = ["head", "net", "painted"]
