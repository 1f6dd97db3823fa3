"""The independent oracle: every operation of the vectors, literally from its definition, in mpmath.

    python -m data.oracle            regenerates data/vectors/v1, byte for byte
    python -m data.oracle --check    compares, and exits 1 naming what differs

Run it in a checkout, with the extra `vectors`: the wheel has the vectors, and not what made them.

It shares no code with the rest of `refngd`, and imports neither it nor NumPy: matrices are lists of rows of mpf
numbers, derivatives are difference quotients at more than twice the working precision, every Fisher matrix is a P x P
matrix made entry by entry, and its powers go through its eigenvalues on its range, those of K-FAC with damped factors
through the eigenvalues of the factors.

    arrays        nested lists of any depth
    linalg        products, LU, powers of symmetric matrices with an honest rank
    network       forward pass, delta_l and J as difference quotients
    fisher        G, directions, Theta_bar, the Gram matrices that other routes invert
    dynamics      predictions, training, cross-entropy, Forster, alpha
    kernels       infinite width, by one- and two-dimensional quadrature
    linear        deep linear networks
    modes         singular modes, Huh (17) by quadrature
    operations    all of these by name
    certify       two precisions, condition numbers, rounding to float64
    files         JSON
    cases         what is computed
"""
