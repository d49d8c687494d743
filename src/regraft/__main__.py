"""`python -m regraft`, and `torchrun --nproc-per-node N -m regraft` for several processes."""

from regraft.cli import main

if __name__ == "__main__":
    main()
