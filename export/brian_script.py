"""placeholder"""


def script(*a: object) -> str:
    return ""
