//! Where the frames of a WebSocket begin and end (RFC 6455, section 5.2), without a look at what is in them.

/// Follows one direction of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frames {
    /// What is known of the header of the next frame, and how much of it.
    header: [u8; 14],
    known: usize,
    /// What the frame under way still has to bring.
    rest: u64,
}

impl Frames {
    /// Whether a frame may begin here: the gateway may send one of its own.
    pub(crate) const fn are_whole(&self) -> bool {
        self.known == 0 && self.rest == 0
    }

    /// How many of these bytes belong to the frame under way, or to the next one. Those have gone by.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while let Some(byte) = bytes.get(passed).filter(|_| self.rest == 0) {
            if let Some(slot) = self.header.get_mut(self.known) {
                *slot = *byte;
            }
            self.known += 1;
            passed += 1;
            if let Some(payload) = self.payload() {
                (self.known, self.rest) = (0, payload);
                if payload == 0 {
                    return passed;
                }
            }
        }
        let payload = usize::try_from(self.rest).unwrap_or(usize::MAX).min(bytes.len() - passed);
        self.rest -= payload as u64;
        passed + payload
    }

    /// The length of the payload, once the header is complete.
    fn payload(&self) -> Option<u64> {
        let [_, second, third, fourth, ..] = self.header;
        let (extended, length) = match second & 0x7f {
            126 => (2, u64::from(u16::from_be_bytes([third, fourth]))),
            127 => (8, self.header.get(2..10)?.try_into().ok().map(u64::from_be_bytes)?),
            length => (0, u64::from(length)),
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        (self.known == 2 + extended + mask).then_some(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::Frames;

    fn frame(payload: usize, is_masked: bool) -> Vec<u8> {
        let mask = if is_masked { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match payload {
            0..126 => frame.push(mask | payload as u8),
            126..65536 => frame.extend([&[mask | 126][..], &(payload as u16).to_be_bytes()].concat()),
            _ => frame.extend([&[mask | 127][..], &(payload as u64).to_be_bytes()].concat()),
        }
        // Bytes that look like headers.
        frame.resize(frame.len() + payload + if is_masked { 4 } else { 0 }, 0x81);
        frame
    }

    proptest! {
        #[test]
        fn the_end_of_each_frame_is_found_however_it_comes(
            payloads in vec((prop_oneof![0..4_usize, 120..130_usize, 65_530..65_540_usize], any::<bool>()), 1..6),
            cuts in vec(1..3000_usize, 1..40),
        ) {
            let all: Vec<Vec<u8>> = payloads.into_iter().map(|(payload, is_masked)| frame(payload, is_masked)).collect();
            let mut ends: Vec<usize> = all.iter().scan(0, |end, frame| { *end += frame.len(); Some(*end) }).collect();
            let bytes = all.concat();
            let (mut frames, mut at, mut cuts) = (Frames::default(), 0, cuts.into_iter().cycle());
            let mut found = Vec::new();
            while at < bytes.len() {
                let chunk = &bytes[at..(at + cuts.next().unwrap()).min(bytes.len())];
                let passed = frames.pass(chunk);
                prop_assert!(passed > 0 && passed <= chunk.len());
                at += passed;
                prop_assert!(passed == chunk.len() || frames.are_whole());
                if frames.are_whole() {
                    found.push(at);
                }
            }
            ends.dedup();
            prop_assert_eq!(found, ends);
        }
    }

    #[test]
    fn a_length_that_nobody_has_is_only_counted() {
        let mut frames = Frames::default();
        let header = [&[0x82, 127][..], &u64::MAX.to_be_bytes()].concat();
        assert_eq!(frames.pass(&header), 10);
        assert_eq!(frames.pass(&[0; 1000]), 1000);
        assert!(!frames.are_whole());
    }
}
