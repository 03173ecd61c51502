"""Parameters of the methods that change nodes: strict, like all others."""

import pytest

from proxy.control import node_schema, schema


def test_they_are_methods_of_the_api() -> None:
    assert node_schema.METHODS.items() <= schema.METHODS.items()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"method":"node","params":{"node":"n"}}', "action"),
        (b'{"method":"node","params":{"node":"n","action":"explode"}}', "explode"),
        (b'{"method":"node_add","params":{"name":"n"}}', "address"),
        (b'{"method":"node_add","params":{"name":"n","address":"a","wait":1}}', "wait"),
        (b'{"method":"nodes_reload","params":{"path":"/etc/passwd"}}', "path"),
        (b'{"method":"evacuate","params":{}}', "node"),
        (b'{"method":"events","params":{"after":"x"}}', "after"),
    ],
)
def test_wrong_parameters_are_refused_by_name(line: bytes, says: str) -> None:
    with pytest.raises(schema.BadRequest, match=says):
        schema.decode_request_untrusted(line)
