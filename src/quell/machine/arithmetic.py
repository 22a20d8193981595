"""Vector code as text of LLVM's language: arithmetic, comparisons, and exp and log to the last digit or two.

No operation may be reordered or replaced by one less exact, and products are fused with sums only where that is written
out: the same code gives the same bits on every processor, however wide its registers are.
"""

from __future__ import annotations

import math
import struct

LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # fdlibm: the high part has zeros at its end
MAGIC = 6755399441055744.0  # 1.5 * 2**52: adding it leaves the nearest whole number in the low bits
TAYLOR = 13  # terms of exp on |r| < 0.347: the next is below 4e-18
LOG = (
    6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01,
    1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01,
)  # fmt: skip
# the coefficients of log(1 + f) in s = f / (2 + f): fdlibm's __ieee754_log (Sun Microsystems, freely granted)

COMPARE = {"lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "eq": "oeq", "ne": "une"}
UNARY = {"sqrt": "sqrt", "abs": "fabs", "floor": "floor", "ceil": "ceil", "round": "rint", "trunc": "trunc"}


class Writer:
    """Lines of one function; every name is used once."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.vector, self.mask, self.whole = f"<{width} x double>", f"<{width} x i1>", f"<{width} x i64>"
        self.lines: list[str] = []
        self.count = 0

    def let(self, text: str) -> str:
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def number(self, x: float) -> str:
        """A number in every lane."""
        bits = struct.unpack("<Q", struct.pack("<d", x))[0]
        return "<" + ", ".join([f"double 0x{bits:016X}"] * self.width) + ">"

    def bits(self, x: int) -> str:
        return "<" + ", ".join([f"i64 {x}"] * self.width) + ">"

    def truth(self, x: bool) -> str:
        return "<" + ", ".join([f"i1 {int(x)}"] * self.width) + ">"

    def multiply(self, a: str, b: str) -> str:
        return self.let(f"fmul {self.vector} {a}, {b}")

    def fused(self, a: str, b: str, c: str) -> str:
        """a b + c, rounded once."""
        v = self.vector
        return self.let(f"call {v} @llvm.fma.v{self.width}f64({v} {a}, {v} {b}, {v} {c})")

    def select(self, condition: str, yes: str, no: str) -> str:
        return self.let(f"select {self.mask} {condition}, {self.vector} {yes}, {self.vector} {no}")

    def compare(self, how: str, a: str, b: str) -> str:
        return self.let(f"fcmp {how} {self.vector} {a}, {b}")

    def call(self, intrinsic: str, a: str) -> str:
        return self.let(f"call {self.vector} @llvm.{intrinsic}.v{self.width}f64({self.vector} {a})")

    def operation(self, name: str, x: list[str]) -> str:
        """One operation of a jaxpr on vectors (or masks)."""
        v = self.vector
        if name in ("add", "sub", "mul", "div"):
            return self.let(f"f{name} {v} {x[0]}, {x[1]}")
        if name == "neg":
            return self.let(f"fneg {v} {x[0]}")
        if name in COMPARE:
            return self.compare(COMPARE[name], *x)
        if name in ("max", "min"):
            return self.select(self.compare("ugt" if name == "max" else "ult", *x), *x)
        if name in ("and", "or"):
            return self.let(f"{name} {self.mask} {x[0]}, {x[1]}")
        if name == "not":
            return self.let(f"xor {self.mask} {x[0]}, {self.truth(True)}")
        if name == "select_n":
            return self.select(x[0], x[2], x[1])
        if name in UNARY:
            return self.call(UNARY[name], x[0])
        return getattr(self, f"_{name}")(*x)

    def _is_finite(self, x: str) -> str:
        return self.compare("olt", self.call("fabs", x), self.number(math.inf))

    def _sign(self, x: str) -> str:
        up = self.select(self.compare("ogt", x, self.number(0.0)), self.number(1.0), x)
        return self.select(self.compare("olt", x, self.number(0.0)), self.number(-1.0), up)

    def _reduced(self, x: str) -> tuple[str, str]:
        """The nearest multiple of log 2, as bits in the place of an exponent, and what is left: x = n log 2 + r."""
        shifted = self.fused(x, self.number(1 / math.log(2)), self.number(MAGIC))
        n = self.let(f"fsub {self.vector} {shifted}, {self.number(MAGIC)}")
        r = self.fused(n, self.number(-LN2_HIGH), x)
        r = self.fused(n, self.number(-LN2_LOW), r)
        bits = self.let(f"bitcast {self.vector} {shifted} to {self.whole}")
        return self.let(f"shl {self.whole} {bits}, {self.bits(52)}"), r

    def _series(self, r: str, first: int) -> str:
        """1/first! + r/(first+1)! + ... to the power TAYLOR of exp."""
        total = self.number(1 / math.factorial(TAYLOR))
        for power in range(TAYLOR - 1, first - 1, -1):
            total = self.fused(total, r, self.number(1 / math.factorial(power)))
        return total

    def _exp(self, x: str) -> str:
        """exp by 2^n times a Taylor series on |r| < 0.347; below 2^-1022 it is 0."""
        exponent, r = self._reduced(x)
        bits = self.let(f"bitcast {self.vector} {self._series(r, 0)} to {self.whole}")
        total = self.let(f"add {self.whole} {bits}, {exponent}")
        value = self.let(f"bitcast {self.whole} {total} to {self.vector}")
        value = self.select(self.compare("olt", x, self.number(-708.3)), self.number(0.0), value)
        value = self.select(self.compare("ogt", x, self.number(709.782712893384)), self.number(math.inf), value)
        return self.select(self.compare("uno", x, x), x, value)

    def _expm1(self, x: str) -> str:
        """exp(x) - 1: by the series without its first term where x is small."""
        near = self.multiply(self._series(x, 1), x)
        far = self.let(f"fsub {self.vector} {self._exp(x)}, {self.number(1.0)}")
        small = self.compare("olt", self.call("fabs", x), self.number(0.3))
        return self.select(small, near, far)

    def _log(self, x: str) -> str:
        """log by x = 2^k m, m between sqrt(1/2) and sqrt(2), and fdlibm's series in (m - 1) / (m + 1)."""
        v, w = self.vector, self.whole
        tiny = self.compare("olt", x, self.number(2.0**-1022))
        scaled = self.select(tiny, self.multiply(x, self.number(2.0**54)), x)
        bits = self.let(f"bitcast {v} {scaled} to {w}")
        shifted = self.let(f"add {w} {bits}, {self.bits(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)}")
        k = self.let(f"lshr {w} {shifted}, {self.bits(52)}")
        k = self.let(f"sub {w} {k}, {self.bits(1023)}")
        down = self.let(f"shl {w} {k}, {self.bits(52)}")
        m = self.let(f"bitcast {w} {self.let(f'sub {w} {bits}, {down}')} to {v}")
        power = self.let(f"sitofp {w} {k} to {v}")
        power = self.select(tiny, self.let(f"fsub {v} {power}, {self.number(54.0)}"), power)
        value = self._log_of(m, power)
        value = self.select(self.compare("oeq", x, self.number(math.inf)), x, value)
        value = self.select(self.compare("oeq", x, self.number(0.0)), self.number(-math.inf), value)
        return self.select(self.compare("ult", x, self.number(0.0)), self.number(math.nan), value)

    def _log_of(self, m: str, power: str) -> str:
        """log m + power log 2, for m near 1."""
        v = self.vector
        f = self.let(f"fsub {v} {m}, {self.number(1.0)}")
        s = self.let(f"fdiv {v} {f}, {self.let(f'fadd {v} {f}, {self.number(2.0)}')}")
        z = self.multiply(s, s)
        total = self.number(LOG[-1])
        for coefficient in reversed(LOG[:-1]):
            total = self.fused(total, z, self.number(coefficient))
        half = self.multiply(self.multiply(f, self.number(0.5)), f)
        rest = self.fused(total, z, half)
        rest = self.multiply(s, rest)
        rest = self.fused(power, self.number(LN2_LOW), rest)
        rest = self.let(f"fsub {v} {half}, {rest}")
        rest = self.let(f"fsub {v} {rest}, {f}")
        return self.fused(power, self.number(LN2_HIGH), self.let(f"fneg {v} {rest}"))

    def _log1p(self, x: str) -> str:
        """log(1 + x) = log u - ((u - 1) - x) / u with u = 1 + x rounded; x itself where u is 1."""
        v = self.vector
        u = self.let(f"fadd {v} {x}, {self.number(1.0)}")
        lost = self.let(f"fsub {v} {self.let(f'fsub {v} {u}, {self.number(1.0)}')}, {x}")
        value = self.let(f"fsub {v} {self._log(u)}, {self.let(f'fdiv {v} {lost}, {u}')}")
        value = self.select(self.compare("oeq", u, self.number(math.inf)), u, value)
        value = self.select(self.compare("oeq", u, self.number(0.0)), self.number(-math.inf), value)
        return self.select(self.compare("oeq", u, self.number(1.0)), x, value)

    def _pow(self, a: str, b: str) -> str:
        """a^b = exp(b log a) for a > 0; 1 where b is 0."""
        value = self._exp(self.multiply(b, self._log(a)))
        return self.select(self.compare("oeq", b, self.number(0.0)), self.number(1.0), value)

    def _exp2(self, x: str) -> str:
        return self._exp(self.multiply(x, self.number(math.log(2))))
