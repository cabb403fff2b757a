//! Reads HTTP/1.1 as RFC 9112 writes it, and takes nothing that another reader could read in another way.

/// What is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    /// To a request of this method.
    Response {
        is_to_head: bool,
    },
}

/// One message, or as much of it as there is.
pub(crate) struct Message<'a> {
    /// The words of its first line.
    pub(crate) line: [&'a [u8]; 3],
    /// The names in lower case.
    pub(crate) headers: Vec<(String, &'a [u8])>,
    /// How many of the headers came after the body.
    pub(crate) trailers: usize,
    pub(crate) body: Vec<u8>,
    /// Whether all of it is there.
    pub(crate) is_whole: bool,
    /// Whether only the end of the connection ends it.
    pub(crate) is_open: bool,
    pub(crate) length: usize,
}

/// What the bytes are not.
#[derive(Debug)]
pub(crate) struct Unclean(pub(crate) String);

impl<'a> Message<'a> {
    /// Nothing as long as the head is not whole.
    pub(crate) fn read(bytes: &'a [u8], kind: Kind) -> Result<Option<Self>, Unclean> {
        let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
        let (line, fields) = match find(&bytes[..end], b"\r\n") {
            Some(at) => (&bytes[..at], lines(&bytes[at + 2..end])),
            None => (&bytes[..end], Vec::new()),
        };
        let line = first_line(line, kind).ok_or_else(|| unclean("a first line", line))?;
        let headers = fields.into_iter().map(field).collect::<Result<_, _>>()?;
        let start = end + 4;
        let mut message = Self { line, headers, trailers: 0, body: Vec::new(), is_whole: true, is_open: false, length: start };
        message.read_body(bytes, start, kind)?;
        Ok(Some(message))
    }

    /// Every value of this name.
    pub(crate) fn values(&self, name: &str) -> Vec<&'a [u8]> {
        self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| *value).collect()
    }

    /// Of a response; nothing of what is none.
    pub(crate) fn status(&self) -> Option<u16> {
        str::from_utf8(self.line[1]).ok()?.parse().ok()
    }

    fn read_body(&mut self, bytes: &'a [u8], start: usize, kind: Kind) -> Result<(), Unclean> {
        let (lengths, codings) = (self.values("content-length"), self.values("transfer-encoding"));
        match (&lengths[..], &codings[..]) {
            ([], []) | ([_], []) | ([], [b"chunked"]) => {}
            _ => return Err(Unclean(format!("no one framing: {:?}", self.headers))),
        }
        if self.line[0] == b"HTTP/1.0" && !codings.is_empty() {
            return Err(Unclean("a coding of which HTTP/1.0 knows nothing".to_owned()));
        }
        // RFC 9110, section 6.4.1.
        let has_none = match kind {
            Kind::Request => lengths.is_empty() && codings.is_empty(),
            Kind::Response { is_to_head } => {
                is_to_head || self.status().is_some_and(|status| matches!(status, 100..200 | 204 | 304))
            }
        };
        let length = lengths.first().map(|length| plain_number(length).ok_or_else(|| unclean("a length", length))).transpose()?;
        if has_none {
            return Ok(());
        }
        if !codings.is_empty() {
            return self.read_chunks(bytes, start);
        }
        let Some(length) = length else {
            (self.body, self.is_open, self.length) = (bytes[start..].to_vec(), true, bytes.len());
            return Ok(());
        };
        let end = start.saturating_add(length).min(bytes.len());
        (self.body, self.is_whole, self.length) = (bytes[start..end].to_vec(), end - start == length, end);
        Ok(())
    }

    fn read_chunks(&mut self, bytes: &'a [u8], start: usize) -> Result<(), Unclean> {
        let mut at = start;
        // For as long as something is missing.
        (self.is_whole, self.length) = (false, bytes.len());
        while let Some(end) = find(&bytes[at..], b"\r\n").map(|end| at + end) {
            let line = &bytes[at..end];
            let is_size = (1..=8).contains(&line.len()) && line.iter().all(u8::is_ascii_hexdigit);
            let size = str::from_utf8(line).ok().filter(|_| is_size).and_then(|line| usize::from_str_radix(line, 16).ok());
            let size = size.ok_or_else(|| unclean("the beginning of a chunk", line))?;
            at = end + 2;
            if size == 0 {
                return self.read_trailers(bytes, at);
            }
            let end = at + size;
            self.body.extend(&bytes[at..end.min(bytes.len())]);
            let Some(after) = bytes.get(end..end + 2) else { return Ok(()) };
            if after != b"\r\n" {
                return Err(unclean("the end of a chunk", after));
            }
            at = end + 2;
        }
        Ok(())
    }

    /// They are headers as well: whoever sends some must have meant to.
    fn read_trailers(&mut self, bytes: &'a [u8], mut at: usize) -> Result<(), Unclean> {
        while let Some(end) = find(&bytes[at..], b"\r\n").map(|end| at + end) {
            if end == at {
                (self.is_whole, self.length) = (true, at + 2);
                return Ok(());
            }
            self.headers.push(field(&bytes[at..end])?);
            self.trailers += 1;
            at = end + 2;
        }
        Ok(())
    }
}

fn unclean(what: &str, bytes: &[u8]) -> Unclean {
    Unclean(format!("{what} is {:?}", bytes.escape_ascii().to_string()))
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn lines(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = find(bytes, b"\r\n") {
        lines.push(&bytes[..end]);
        bytes = &bytes[end + 2..];
    }
    lines.push(bytes);
    lines
}

fn first_line(line: &[u8], kind: Kind) -> Option<[&[u8]; 3]> {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let line = [words.next()?, words.next()?, words.next()?];
    let is_clean = match kind {
        Kind::Request => {
            is_token(line[0]) && !line[1].is_empty() && line[1].iter().all(u8::is_ascii_graphic) && line[2] == b"HTTP/1.1"
        }
        Kind::Response { .. } => {
            [&b"HTTP/1.1"[..], b"HTTP/1.0"].contains(&line[0])
                && matches!(line[1], [b'1'..=b'9', _, _])
                && line[1].iter().all(u8::is_ascii_digit)
                && is_text(line[2])
        }
    };
    is_clean.then_some(line)
}

fn field(line: &[u8]) -> Result<(String, &[u8]), Unclean> {
    let parsed = line.iter().position(|byte| *byte == b':').and_then(|colon| {
        let (name, value) = (str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        (is_token(name.as_bytes()) && is_text(value) && value.trim_ascii() == value).then(|| (name.to_ascii_lowercase(), value))
    });
    parsed.ok_or_else(|| unclean("a header line", line))
}

/// RFC 9110, section 5.6.2.
fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn is_text(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

fn plain_number(digits: &[u8]) -> Option<usize> {
    let is_plain = digits.iter().all(u8::is_ascii_digit) && !matches!(digits, [] | [b'0', _, ..]);
    str::from_utf8(digits).ok().filter(|_| is_plain)?.parse().ok()
}
