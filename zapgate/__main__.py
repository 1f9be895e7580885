"""Entry of the `zapgate` command."""


def main() -> None:
    raise SystemExit("no commands yet")


if __name__ == "__main__":
    main()
