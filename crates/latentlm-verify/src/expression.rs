//! Evaluates formulas such as `0.6*x + 0.3*sin(3*x) + 0.1*cos(t/100)`, which stand for the denoising model in
//! cases for solvers.

use burn::tensor::Tensor;

/// The value of a subexpression: a scalar, or a tensor of the state's shape.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // Only a few values exist at a time.
enum Value {
    Scalar(f64),
    State(Tensor<2>),
}

impl Value {
    fn map(self, scalar: impl Fn(f64) -> f64, state: impl Fn(Tensor<2>) -> Tensor<2>) -> Self {
        match self {
            Self::Scalar(a) => Self::Scalar(scalar(a)),
            Self::State(a) => Self::State(state(a)),
        }
    }

    fn negate(self) -> Self {
        self.map(|a| -a, |a| a.neg())
    }

    fn reciprocal(self) -> Self {
        self.map(|a| 1.0 / a, |a| a.recip())
    }

    fn add(self, other: Self) -> Self {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => Self::Scalar(a + b),
            (Self::State(a), Self::State(b)) => Self::State(a + b),
            (Self::State(a), Self::Scalar(b)) | (Self::Scalar(b), Self::State(a)) => {
                Self::State(a.add_scalar(b))
            }
        }
    }

    fn multiply(self, other: Self) -> Self {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => Self::Scalar(a * b),
            (Self::State(a), Self::State(b)) => Self::State(a * b),
            (Self::State(a), Self::Scalar(b)) | (Self::Scalar(b), Self::State(a)) => {
                Self::State(a.mul_scalar(b))
            }
        }
    }

    fn call(self, function: &str) -> Option<Self> {
        Some(match function {
            "sin" => self.map(f64::sin, Tensor::sin),
            "cos" => self.map(f64::cos, Tensor::cos),
            "tanh" => self.map(f64::tanh, Tensor::tanh),
            "exp" => self.map(f64::exp, Tensor::exp),
            "sqrt" => self.map(f64::sqrt, Tensor::sqrt),
            "abs" => self.map(f64::abs, Tensor::abs),
            _ => return None,
        })
    }
}

/// Evaluates a formula. It may contain numbers, `x`, `t`, `pi`, `+ - * /`, integer powers with `**` or `^`,
/// and the functions sin, cos, tanh, exp, sqrt, abs.
///
/// # Errors
/// If the formula can't be parsed. The message tells the position.
pub(crate) fn evaluate(formula: &str, x: &Tensor<2>, t: f64) -> Result<Tensor<2>, String> {
    let mut parser = Parser {
        rest: formula.trim_start(),
        x,
        t,
    };
    let value = parser.sum()?;
    if !parser.rest.is_empty() {
        return Err(format!("can't read `{}` in `{formula}`", parser.rest));
    }
    Ok(match value {
        Value::State(state) => state,
        Value::Scalar(scalar) => Tensor::full(x.dims(), scalar, &x.device()),
    })
}

struct Parser<'a> {
    rest: &'a str,
    x: &'a Tensor<2>,
    t: f64,
}

impl<'a> Parser<'a> {
    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        token
    }

    fn sum(&mut self) -> Result<Value, String> {
        let mut value = self.product()?;
        loop {
            if self.take("+") {
                value = value.add(self.product()?);
            } else if self.take("-") {
                value = value.add(self.product()?.negate());
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<Value, String> {
        let mut value = self.signed()?;
        loop {
            if !self.rest.starts_with("**") && self.take("*") {
                value = value.multiply(self.signed()?);
            } else if self.take("/") {
                value = value.multiply(self.signed()?.reciprocal());
            } else {
                return Ok(value);
            }
        }
    }

    fn signed(&mut self) -> Result<Value, String> {
        if self.take("-") {
            return Ok(self.signed()?.negate());
        }
        let base = self.atom()?;
        if !(self.take("**") || self.take("^")) {
            return Ok(base);
        }
        let digits = self.take_while(|c| c.is_ascii_digit());
        let power: i32 = digits
            .parse()
            .map_err(|_| format!("a power must be a whole number before `{}`", self.rest))?;
        Ok(base.map(|a| a.powi(power), |a| a.powi_scalar(power)))
    }

    fn atom(&mut self) -> Result<Value, String> {
        if self.take("(") {
            return self.closed();
        }
        if self
            .rest
            .starts_with(|c: char| c.is_ascii_digit() || c == '.')
        {
            let number = self.take_while(|c| c.is_ascii_digit() || c == '.');
            let number = number
                .parse()
                .map_err(|_| format!("bad number `{number}`"))?;
            return Ok(Value::Scalar(number));
        }
        match self.take_while(|c| c.is_ascii_alphanumeric() || c == '_') {
            "x" => Ok(Value::State(self.x.clone())),
            "t" => Ok(Value::Scalar(self.t)),
            "pi" => Ok(Value::Scalar(std::f64::consts::PI)),
            name if self.take("(") => {
                let argument = self.closed()?;
                argument
                    .call(name)
                    .ok_or_else(|| format!("unknown function `{name}`"))
            }
            name => Err(format!("can't read `{name}{}`", self.rest)),
        }
    }

    /// Parses the rest of an open bracket.
    fn closed(&mut self) -> Result<Value, String> {
        let value = self.sum()?;
        if self.take(")") {
            Ok(value)
        } else {
            Err(format!("a bracket is open before `{}`", self.rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn at(formula: &str, x: f32, t: f64) -> Result<f32, String> {
        let x = Tensor::<2>::from_floats([[x]], &Device::default());
        Ok(evaluate(formula, &x, t)?.into_scalar::<f32>())
    }

    #[test]
    fn formulas_have_their_value() {
        let x = 0.7_f32;
        let cases: [(&str, f32); 6] = [
            (
                "0.6*x + 0.3*sin(3*x) + 0.1*cos(t/100)",
                0.6 * x + 0.3 * (3.0 * x).sin() + 0.1 * 2.5f32.cos(),
            ),
            ("-x**2 + 2", -x * x + 2.0),
            ("(x - 1) / (x + 1)", (x - 1.0) / (x + 1.0)),
            ("1 - 2 - 3", -4.0),
            ("8 / 2 / 2 * x", 2.0 * x),
            ("tanh(x) * exp(-t / 250)", x.tanh() * (-1f32).exp()),
        ];
        for (formula, expected) in cases {
            let got = at(formula, x, 250.0).unwrap();
            assert!((got - expected).abs() < 1e-6, "{formula}: {got} {expected}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for formula in ["", "x +", "2 x", "foo(x)", "(x", "x ** y", "1..2"] {
            assert!(at(formula, 1.0, 0.0).is_err(), "{formula}");
        }
    }
}
