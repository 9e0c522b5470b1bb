//! A reader of the one Python literal that a .npy header is.

use super::header::NpyHeader;

/// What is wrong, and at which byte of the literal.
type Fault = (usize, String);

/// The most dimensions; numpy's own limit.
const MOST_DIMS: usize = 64;

pub(super) struct Literal<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Literal<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Literal { text, at: 0 }
    }

    /// The dictionary of three keys, which is all there is.
    pub(super) fn header(mut self) -> Result<NpyHeader, Fault> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.expect(b'{')?;
        while !self.eat(b'}') {
            let start = self.at;
            let key = self.string()?;
            self.expect(b':')?;
            let fresh = match key.as_str() {
                "descr" => descr.replace(self.descr()?).is_none(),
                "fortran_order" => fortran_order.replace(self.boolean()?).is_none(),
                "shape" => shape.replace(self.shape()?).is_none(),
                _ => return Err((start, format!("the header has an unknown key {key:?}"))),
            };
            if !fresh {
                return Err((start, format!("the header has {key:?} twice")));
            }
            if !self.eat(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        self.skip_space();
        if !self.rest().is_empty() {
            return Err(self.fault("the header goes on after its end"));
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => {
                Ok(NpyHeader { descr, fortran_order, shape })
            }
            _ => Err(self.fault("the header lacks descr, fortran_order or shape")),
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn fault(&self, reason: &str) -> Fault {
        (self.at, reason.to_owned())
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_ascii_start().len();
    }

    fn eat(&mut self, wanted: u8) -> bool {
        self.skip_space();
        let found = self.rest().first() == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Fault> {
        if self.eat(wanted) {
            return Ok(());
        }
        let found = match self.rest().first() {
            Some(byte) => format!("'{}'", byte.escape_ascii()),
            None => "its end".to_owned(),
        };
        Err(self.fault(&format!("in the header, expected '{}', found {found}", char::from(wanted))))
    }

    /// A string without escapes: none of the three keys and no plain type has any.
    fn string(&mut self) -> Result<String, Fault> {
        let quote = if self.eat(b'"') { b'"' } else { b'\'' };
        if quote == b'\'' {
            self.expect(quote)?;
        }
        let end = self.rest().iter().position(|byte| *byte == quote);
        let end = end.ok_or_else(|| self.fault("in the header, a string does not end"))?;
        let text = String::from_utf8_lossy(&self.rest()[..end]).into_owned();
        self.at += end + 1;
        Ok(text)
    }

    fn descr(&mut self) -> Result<String, Fault> {
        self.skip_space();
        if self.rest().first() == Some(&b'[') {
            return Err(self.fault(
                "the array has a structured dtype, expected plain numbers: save the one field \
                 that holds the rows",
            ));
        }
        self.string()
    }

    fn boolean(&mut self) -> Result<bool, Fault> {
        self.skip_space();
        for (name, value) in [("True", true), ("False", false)] {
            if self.rest().starts_with(name.as_bytes()) {
                self.at += name.len();
                return Ok(value);
            }
        }
        Err(self.fault("in the header, expected True or False for fortran_order"))
    }

    fn shape(&mut self) -> Result<Vec<u64>, Fault> {
        let mut shape = Vec::new();
        self.expect(b'(')?;
        while !self.eat(b')') {
            if shape.len() == MOST_DIMS {
                return Err(self.fault("in the header, the shape has more than 64 dimensions"));
            }
            shape.push(self.length()?);
            if !self.eat(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(shape)
    }

    fn length(&mut self) -> Result<u64, Fault> {
        self.skip_space();
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = std::str::from_utf8(&self.rest()[..digits]).ok();
        let Some(number) = number.and_then(|number| number.parse().ok()) else {
            return Err(self.fault("in the header, the shape has a length that is no number"));
        };
        self.at += digits;
        // Python 2 wrote long integers with an L.
        self.at += usize::from(self.rest().first() == Some(&b'L'));
        Ok(number)
    }
}
