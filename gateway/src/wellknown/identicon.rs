//! A picture for whoever has none: a symmetric pattern in one colour, the same for the same name.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use png::{BitDepth, ColorType, Encoder, EncodingError};
use sha2::{Digest, Sha256};

use super::instance;
use crate::app::App;

/// The longest name that is looked at, in bytes.
const MAX_NAME_BYTES: usize = 512;
const CACHED: &str = "public, max-age=86400";
/// Width and height of the picture, in pixels.
const SIDE: u32 = 128;
/// Fields in a row and in a column; the right half mirrors the left.
const FIELDS: u32 = 5;
/// Pixels left free on each side.
const MARGIN: u32 = 14;
const PAPER: [u8; 3] = [0xf2, 0xf0, 0xec];
/// Colours that stand out from the paper.
const INKS: [[u8; 3]; 8] = [
    [0xb0, 0x3a, 0x48],
    [0xc4, 0x6a, 0x1d],
    [0x8a, 0x7a, 0x12],
    [0x3c, 0x85, 0x3f],
    [0x12, 0x80, 0x80],
    [0x2f, 0x66, 0xb5],
    [0x6a, 0x4f, 0xb3],
    [0xa3, 0x43, 0x8c],
];

pub async fn picture(State(app): State<App>, Path(of): Path<String>) -> Result<Response, StatusCode> {
    if of.len() > MAX_NAME_BYTES {
        return Err(StatusCode::NOT_FOUND);
    }
    let generated = instance(&app).await?.settings.flag("enableIdenticonGeneration");
    // Without it, everybody looks the same.
    let png = draw(if generated { &of } else { "" }).map_err(|cause| {
        tracing::error!(%cause, "an identicon can't be drawn");
        StatusCode::INTERNAL_SERVER_ERROR
    })?;
    Ok(([(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, CACHED)], png).into_response())
}

fn draw(name: &str) -> Result<Vec<u8>, EncodingError> {
    let hash = Sha256::digest(name.as_bytes());
    let ink = INKS[usize::from(hash[0]) % INKS.len()];
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, SIDE, SIDE);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::One);
    encoder.set_palette([PAPER, ink].concat());
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels(&hash))?;
    writer.finish()?;
    Ok(bytes)
}

/// One bit per pixel, set where there is ink.
fn pixels(hash: &[u8]) -> Vec<u8> {
    let field = (SIDE - 2 * MARGIN) / FIELDS;
    let is_ink = |x: u32, y: u32| {
        let (Some(x), Some(y)) = (x.checked_sub(MARGIN), y.checked_sub(MARGIN)) else { return false };
        let (column, row) = (x / field, y / field);
        let mirrored = column.min(FIELDS.saturating_sub(column + 1));
        column < FIELDS && row < FIELDS && hash[(1 + row * FIELDS.div_ceil(2) + mirrored) as usize] % 2 == 1
    };
    let byte = |y: u32, first: u32| (first..first + 8).fold(0, |byte, x| byte << 1 | u8::from(is_ink(x, y)));
    (0..SIDE).flat_map(|y| (0..SIDE).step_by(8).map(move |first| byte(y, first))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(png: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        (pixels, reader.info().palette.as_ref().unwrap().to_vec())
    }

    #[test]
    fn a_name_has_one_picture_and_another_name_another() {
        assert_eq!(draw("bob@a.example").unwrap(), draw("bob@a.example").unwrap());
        assert_ne!(draw("bob@a.example").unwrap(), draw("bob@b.example").unwrap());
    }

    #[test]
    fn a_picture_is_symmetric_and_has_a_margin() {
        for name in ["", "alice", "bob@127.0.0.1:3000", "日本"] {
            let (pixels, palette) = read(&draw(name).unwrap());
            assert_eq!(palette[..3], PAPER);
            let bits: Vec<bool> =
                pixels.iter().flat_map(|byte| (0..8).map(move |n| byte >> (7 - n) & 1 == 1)).collect();
            for row in bits.chunks(SIDE as usize) {
                assert!(row.iter().eq(row.iter().rev()), "{name}");
                assert!(row[..MARGIN as usize].iter().all(|ink| !ink));
            }
        }
    }
}
