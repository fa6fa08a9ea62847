"""Stubs of the registry, generated from the schema when the program runs."""

import sys
import tempfile

import grpc_tools.protoc


def stubs(proto_dir):
    """Generates and imports the messages and the client of netloft.registry.v1."""
    directory = tempfile.mkdtemp(prefix="stubs-")
    source = "netloft/registry/v1/registry.proto"
    code = grpc_tools.protoc.main(
        ["protoc", f"-I{proto_dir}", f"--python_out={directory}", f"--grpc_python_out={directory}", source]
    )
    assert code == 0, "protoc does not understand the schema"
    sys.path.insert(0, directory)
    from netloft.registry.v1 import registry_pb2, registry_pb2_grpc

    return registry_pb2, registry_pb2_grpc
