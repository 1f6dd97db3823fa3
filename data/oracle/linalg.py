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


def solve(K, B):
    """K^{-1} B by elimination with partial pivoting, for any non-singular K."""
    n = len(K)
    rows = [list(k) + list(b) for k, b in zip(K, B, strict=True)]
    for i in range(n):
        p = max(range(i, n), key=lambda r: abs(rows[r][i]))
        rows[i], rows[p] = rows[p], rows[i]
        for r in range(i + 1, n):
            factor = rows[r][i] / rows[i][i]
            if factor:
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[i], strict=True)]
    X = [None] * n
    for i in reversed(range(n)):
        right = rows[i][n:]
        for r in range(i + 1, n):
            right = [a - rows[i][r] * b for a, b in zip(right, X[r], strict=True)]
        X[i] = [a / rows[i][i] for a in right]
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


def eigen(K):
    """Eigenvalues and eigenvectors (a list of vectors) of a symmetric K."""
    if len(K) == 1:
        return [K[0][0]], [[mp.mpf(1)]]
    w, V = mp.eigsy(mp.matrix(K))
    n = len(K)
    return [w[k] for k in range(n)], [[V[i, k] for i in range(n)] for k in range(n)]


def eigenvalues(K):
    if len(K) == 1:
        return [K[0][0]]
    return list(mp.eigsy(mp.matrix(K), eigvals_only=True))


def live(w):
    """Which eigenvalues are not zero: those above 10^(-dps / 2) of the largest; rounding leaves about 10^-dps."""
    bound = mp.mpf(10) ** (-mp.dps // 2) * max(abs(x) for x in w)
    return [abs(x) > bound for x in w]


def power(K, exponent):
    """K^exponent of a symmetric K on its range, 0 on its null space, block by block."""
    n = len(K)
    result = [[mp.mpf(0)] * n for _ in range(n)]
    for block in components(K):
        w, V = eigen([[K[i][j] for j in block] for i in block])
        if exponent != mp.nint(exponent) and any(x < 0 and keep for x, keep in zip(w, live(w), strict=True)):
            raise ArithmeticError(f"a negative eigenvalue has no real power {mp.nstr(exponent, 3)}")
        pairs = [(x**exponent, v) for x, v, keep in zip(w, V, live(w), strict=True) if keep]
        for a, i in enumerate(block):
            for b, j in enumerate(block):
                result[i][j] = mp.fsum(x * v[a] * v[b] for x, v in pairs)
    return result


def apply_power(K, rho, q, B):
    """(K + rho I)^{-1/q} B; the pseudo-inverse where K is singular and rho = 0. B is a matrix."""
    if mp.isinf(q):
        return B
    if q == 1 and rho > 0:
        return solve(damped(K, rho), B)
    return matmul(power(damped(K, rho), -1 / mp.mpf(q)), B)


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
