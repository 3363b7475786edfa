"""Fits the polynomials of elementary.h and prints them as C constants.

Least squares at Chebyshev points (within a fraction of a bit of minimax; Powell, Comput. J. 9, 1967) in 60-digit
arithmetic. Coefficient after coefficient is rounded to the target type and the rest fitted again, so that the
rounding of the large coefficients is made good by the small ones.

    python csrc/simd/fit/fit.py [name ...]
"""

import sys

import mpmath as mp
import numpy as np

mp.mp.dps = 60


def least_squares(values, nodes, weights, powers):
    """Coefficients of sum c[k] x^powers[k] with the least weighted sum of squares: the normal equations."""
    columns = [[x**p * w for x, w in zip(nodes, weights, strict=True)] for p in powers]
    right = [v * w for v, w in zip(values, weights, strict=True)]
    matrix = mp.matrix([[mp.fdot(p, q) for q in columns] for p in columns])
    return list(mp.lu_solve(matrix, mp.matrix([mp.fdot(p, right) for p in columns])))


def rounded(value, single):
    return mp.mpf(float(np.float32(float(value)))) if single else mp.mpf(float(value))


def fit(f, powers, a, b, single, weight=None, lead=False):
    """Coefficients rounded one by one from the lowest power up, and the worst weighted error left. With `lead` what
    rounding the first one lost is a coefficient too, the last."""
    a, b, powers = mp.mpf(a), mp.mpf(b), list(powers)
    weight = weight or (lambda x: 1 / abs(f(x)))
    count = 8 * len(powers) + 25
    nodes = [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * (k + mp.mpf(1) / 2) / count) for k in range(count)]
    values, weights = [f(x) for x in nodes], [weight(x) for x in nodes]
    done, lost = [], []
    while powers:
        exact = least_squares(values, nodes, weights, powers)[0]
        c = rounded(exact, single)
        if lead and not done:
            lost = [rounded(exact - c, single)]
        power = powers.pop(0)
        taken = c + sum(lost) if not done else c
        values = [v - taken * x**power for v, x in zip(values, nodes, strict=True)]
        done.append(c)
    return done + lost, max(abs(v * w) for v, w in zip(values, weights, strict=True))


def hexadecimal(value, single):
    s = float(value).hex()
    if single:
        s = float(np.float32(float(value))).hex() + "f"
    return s.replace("0000000p", "p")


def show(name, c, worst, single):
    print(f"{name}: error 2^{mp.nstr(mp.log(worst, 2), 5) if worst else '-inf'}")
    print("    " + ", ".join(hexadecimal(x, single) for x in c))


FITS = {}


def entry(name):
    def register(function):
        FITS[name] = function
        return function

    return register


def simple(name, f, degree, a, b, weight):
    """A plain polynomial in the variable; float if the name ends in f."""
    single = name.endswith("_f")
    FITS[name] = lambda: show(name, *fit(f, range(degree + 1), a, b, single, weight), single)


ln2, half_ln2 = mp.log(2), mp.log(2) / 2 * mp.mpf("1.002")
one = mp.mpf(1)


def tail(f, *terms):
    """f with its leading series terms taken off and the next power of x divided out."""

    def g(x):
        return (f(x) - sum(c * x**k for k, c in enumerate(terms))) / x ** len(terms)

    return g


# e^r = 1 + r + r^2 q(r);  2^f = 1 + f q(f)
for name, degree in (("exp_f", 4), ("exp_d", 9)):
    simple(name, tail(mp.exp, 1, 1), degree, -half_ln2, half_ln2, lambda x: x * x / mp.exp(x))
for name, degree in (("exp2_f", 5), ("exp2_d", 10)):
    simple(name, tail(lambda x: mp.mpf(2) ** x, 1), degree, -0.501, 0.501, lambda x: abs(x) / mp.mpf(2) ** x)
# for expm1 the error counts relative to r
for name, degree in (("expm1_f", 5), ("expm1_d", 10)):
    simple(name, tail(mp.exp, 1, 1), degree, -half_ln2, half_ln2, lambda x: abs(x))
# log(1 + f) = f - f^2/2 + f^3 q(f), 0.75 <= 1 + f < 1.5
simple("log_f", tail(mp.log1p, 0, 1, -one / 2), 7, -0.2501, 0.5001, lambda x: x * x)
# log(1 + f) = 2 s + s z q(z), s = f / (2 + f), z = s^2, sqrt(1/2) <= 1 + f < sqrt(2)
simple("log_d", lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z, 6, 0, 0.02945, lambda z: z)
# pow: atanh(s) = s + s z / 3 + s z^2 q(z)
simple("pow_d", lambda z: ((mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z - one / 3) / z, 8, 0, 0.02945, lambda z: z * z)
simple("pow_log2_d", lambda z: 2 / ln2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z), 6, 0, 0.02945, lambda z: 1)
simple("pow_exp2_d", lambda x: mp.mpf(2) ** x, 7, -0.5, 0.5, lambda x: 1)
# sin r = r + r z q(z), cos r = 1 - z/2 + z^2 q(z), z = r^2, |r| <= pi/4
square = lambda g: lambda z: g(mp.sqrt(z))  # noqa: E731
sine = square(lambda x: (mp.sin(x) / x - 1) / x**2)
cosine = square(lambda x: (mp.cos(x) - 1 + x**2 / 2) / x**4)
top = (mp.pi / 4 * mp.mpf("1.006")) ** 2
for name, degree in (("sin_f", 2), ("sin_d", 5)):
    simple(name, sine, degree, 0, top, lambda z: z)
for name, degree in (("cos_f", 2), ("cos_d", 5)):
    simple(name, cosine, degree, 0, top, lambda z: z * z)
# atan x = x + x z q(z), |x| <= tan(pi/8)
arctangent = square(lambda x: (mp.atan(x) / x - 1) / x**2)
for name, degree in (("atan_f", 4), ("atan_d", 11)):
    simple(name, arctangent, degree, 0, (mp.tan(mp.pi / 8) * mp.mpf("1.0001")) ** 2, lambda z: z)
# asin x = x + x z q(z), |x| <= 1/2
arcsine = square(lambda x: (mp.asin(x) / x - 1) / x**2)
for name, degree in (("asin_f", 4), ("asin_d", 11)):
    simple(name, arcsine, degree, 0, 0.2501, lambda z: z)
# erf x = x + x q(x^2), |x| <= 1;  erfc x = exp(-x^2) q(t), t = 1 / (x + 1) shifted, 1 <= x <= 6
simple("erf_near_d", square(lambda x: mp.erf(x) / x - 1), 13, 0, 1.0002, lambda z: 1)
simple("erf_near_f", square(lambda x: mp.erf(x) / x - 1), 6, 0, 1.0002, lambda z: 1)
simple("erfc_far_d", lambda t: mp.erfc(1 / (t + 0.3125) - 1) * mp.exp((1 / (t + 0.3125) - 1) ** 2), 13,
       one / 7 - 0.3125, one / 2 - 0.3125, lambda t: mp.exp(-(1 / (t + 0.3125) - 1) ** 2))
# log2(erfc x) for 1 <= x <= 4: erf x = 1 - 2^(-q(x))
simple("erf_far_f", lambda x: mp.log(mp.erfc(x + 2), 2), 8, -1.0001, 2,
       lambda x: mp.erfc(x + 2))
# tanh x = x + x z q(z), |x| <= 0.6
simple("tanh_near_f", square(lambda x: (mp.tanh(x) / x - 1) / x**2), 4, 0, 0.3601, lambda z: z)


def table(name, g, a, bounds, degree, weight):
    """A polynomial for each interval in the distance from its centre."""
    columns, worst = [[] for _ in range(degree + 2)], mp.mpf(0)
    for low, high, centre in bounds:
        low, high, centre = mp.mpf(low), mp.mpf(high), mp.mpf(centre)
        c, error = fit(lambda t, at=centre: g(t + at), range(degree + 1), low - centre, high - centre, True,
                       lambda t, at=centre: weight(t + at), lead=True)
        worst = max(worst, error)
        for column, value in zip(columns, c, strict=True):
            column.append(value)
    print(f"{name}: error 2^{mp.nstr(mp.log(worst, 2), 5)}")
    for column in columns:
        print("    {" + ", ".join(hexadecimal(x, True) for x in column) + "},")


@entry("erf_table")
def erf_table():
    g = lambda x: mp.erf(x) / x if x > mp.mpf(10) ** -20 else 2 / mp.sqrt(mp.pi)  # noqa: E731
    # u = 3.9 x in 16 intervals around whole numbers; the last ends after erf has become 1 in float, at x = 3.92
    scaled = lambda u: g(u / mp.mpf(float(np.float32(3.9))))  # noqa: E731
    bounds = [(max(k - 0.5, 0), k + 0.5, k) for k in range(16)]
    table("erf_table", scaled, 0, bounds, 5, lambda u: 1 / scaled(u))


@entry("tanh_table")
def tanh_table():
    g = lambda x: mp.tanh(x) / x if x > mp.mpf(10) ** -20 else one  # noqa: E731
    # four intervals an octave of u = x + 5/8, which takes x in [0, 9.1] to just under 16 of them. In the order of
    # (float bits of u >> 21) & 15.
    bounds = [None] * 16
    for octave in range(-1, 4):
        for quarter in range(4):
            low = mp.mpf(2) ** octave * (1 + mp.mpf(quarter) / 4)
            high = low + mp.mpf(2) ** octave / 4
            if low < 0.625 or low > 8:
                continue
            index = ((127 + octave) * 4 + quarter) & 15
            shift = mp.mpf("0.625")
            bounds[index] = (low - shift, min(high - shift, mp.mpf("9.1")), (low + high) / 2 - shift)
    table("tanh_table", g, 0, bounds, 6, lambda x: 1 / g(x))


if __name__ == "__main__":
    for wanted in sys.argv[1:] or FITS:
        FITS[wanted]()
