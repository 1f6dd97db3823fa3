"""Linear algebra on lists of rows of mpf numbers, at the working precision."""

from mpmath import mp


def transpose(A):
    return [list(column) for column in zip(*A, strict=True)]


def matmul(A, B):
    columns = list(zip(*B, strict=True))
    return [[mp.fdot(row, column) for column in columns] for row in A]


def matvec(A, v):
    return [mp.fdot(row, v) for row in A]


def add(A, B, factor=1):
    """A + factor B."""
    return [[a + factor * b for a, b in zip(*rows, strict=True)] for rows in zip(A, B, strict=True)]


def scale(A, factor):
    return [[factor * a for a in row] for row in A]


def identity(n, value=1):
    return [[mp.mpf(value) if i == j else mp.mpf(0) for j in range(n)] for i in range(n)]


def damped(K, rho):
    """K + rho I."""
    return [[a + rho if i == j else a for j, a in enumerate(row)] for i, row in enumerate(K)]


def kron(B, A):
    return [[b * a for b in row_b for a in row_a] for row_b in B for row_a in A]


def norm(numbers):
    """The Euclidean norm of a flat sequence."""
    return mp.sqrt(mp.fsum(x * x for x in numbers))


def largest(row):
    return max(map(abs, row))


def less(u, c, v):
    """u - c v."""
    return [a - c * b for a, b in zip(u, v, strict=True)]


def solve(K, B):
    """K^{-1} B by elimination with partial pivoting, for any non-singular K."""
    rows, eliminated = [[*k, *b] for k, b in zip(K, B, strict=True)], []
    while rows:
        pivot = rows.pop(max(range(len(rows)), key=lambda r: abs(rows[r][0])))
        eliminated.append(pivot)
        rows = [less(row[1:], row[0] / pivot[0], pivot[1:]) if row[0] else row[1:] for row in rows]
    X = []
    for n, (first, *row) in enumerate(reversed(eliminated)):
        right = row[n:]
        for a, x in zip(row, X, strict=False):
            right = less(right, a, x)
        X.insert(0, [v / first for v in right])
    return X


def components(K):
    """Index sets of the irreducible blocks of a symmetric K, by the pattern of its exact zeros."""
    left, found = set(range(len(K))), []
    while left:
        block, queue = set(), [min(left)]
        while queue:
            i = queue.pop()
            if i in left:
                left.discard(i)
                block.add(i)
                queue.extend(j for j in left if K[i][j])
        found.append(sorted(block))
    return found


def range_basis(K):
    """Orthonormal vectors that span the range of a symmetric K, by Gram-Schmidt, the row with the largest entry first.

    Rows are zero below 10^(-3 dps / 4) of the largest entry, so that `live` decides which eigenvalues are.
    """
    rest, Q = [list(row) for row in K], []
    bound = mp.mpf(10) ** (-3 * mp.dps // 4) * max(map(largest, K))
    while len(Q) < len(K) and largest(row := max(rest, key=largest)) > bound:
        for v in Q:  # once more, or they are not orthogonal to the last digits
            row = less(row, mp.fdot(v, row), v)
        size = norm(row)
        Q.append([a / size for a in row])
        rest = [less(row, mp.fdot(Q[-1], row), Q[-1]) for row in rest]
    return Q


def eigen(K):
    """Eigenvalues and eigenvectors (a list of vectors) of a symmetric K on its range: of Q K Q^T, which is small.

    An eigenvalue may be a zero up to rounding, which `live` tells.
    """
    if len(K) == 1:
        return [K[0][0]], [[mp.mpf(1)]]
    Q = range_basis(K)
    if not Q:
        return [], []
    w, V = mp.eigsy(mp.matrix(matmul(matmul(Q, K), transpose(Q))))
    return list(w), matmul(V.T.tolist(), Q)


def eigenvalues(K):
    if len(K) == 1:
        return [K[0][0]]
    return list(mp.eigsy(mp.matrix(K), eigvals_only=True))


def live(w):
    """Which eigenvalues are not zero: those above 10^(-dps / 2) of the largest; rounding leaves about 10^-dps."""
    bound = mp.mpf(10) ** (-mp.dps // 2) * max(abs(x) for x in w)
    return [abs(x) > bound for x in w]


def power(K, exponent, rho=0):
    """(K + rho I)^exponent of a symmetric K on its range, 0 on its null space, block by block of K."""
    result = [[mp.mpf(0)] * len(K) for _ in K]
    for block in components(K):
        w, V = eigen([[K[i][j] for j in block] for i in block])
        powers = powers_of([x + rho for x in w] + [mp.mpf(rho)] * (len(w) < len(block)), exponent)
        outside = powers.pop() if len(w) < len(block) else mp.mpf(0)
        scaled = [[(x - outside) * a for a in v] for x, v in zip(powers, V, strict=True)]
        for i, row in zip(block, damped(matmul(transpose(scaled), V), outside), strict=True):
            for j, a in zip(block, row, strict=True):
                result[i][j] = a
    return result


def powers_of(w, exponent):
    """w^exponent of eigenvalues, 0 of those that are not `live`."""
    keep = live(w)
    if exponent != mp.nint(exponent) and any(x < 0 and alive for x, alive in zip(w, keep, strict=True)):
        raise ArithmeticError(f"a negative eigenvalue has no real power {mp.nstr(exponent, 3)}")
    return [x**exponent if alive else mp.mpf(0) for x, alive in zip(w, keep, strict=True)]


def apply_power(K, rho, q, B):
    """(K + rho I)^{-1/q} B; the pseudo-inverse where K is singular and rho = 0. B is a matrix."""
    if mp.isinf(q):
        return B
    if q == 1 and rho > 0:
        return solve(damped(K, rho), B)
    return matmul(power(K, -1 / mp.mpf(q), rho), B)


def kept(K, rcond):
    """Eigenvalues and vectors of K = R^T R for the singular values of R above rcond times the largest."""
    w, V = eigen(K)
    return [(x, v) for x, v in zip(w, V, strict=True) if x > rcond**2 * max(w)]


def apply_kept(K, rho, q, rcond, B):
    """(K + rho I)^{-1/q} B on the directions that are `kept`, and 0 on the others."""
    terms = [((x + rho) ** (-1 / mp.mpf(q)), v, matvec(transpose(B), v)) for x, v in kept(K, rcond)]
    return [[mp.fsum(p * v[i] * b[k] for p, v, b in terms) for k in range(len(B[0]))] for i in range(len(B))]


def condition(K):
    """The condition number of a symmetric K on its range."""
    w = eigenvalues(K)
    sizes = [abs(x) for x, keep in zip(w, live(w), strict=True) if keep]
    return max(sizes) / min(sizes) if sizes else mp.mpf(1)


def root(K):
    """The symmetric square root of a positive semi-definite K."""
    return power(K, mp.mpf(1) / 2)
