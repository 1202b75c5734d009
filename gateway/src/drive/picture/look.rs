//! What the process does that looks at a picture: it binds its own hands, takes out what the file tells of
//! its maker, reads the picture, and makes a small one.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use img_parts::{Bytes, DynImage, ImageEXIF};
use nix::sys::resource::{Resource, setrlimit};

use super::blur::blurred;
use super::vector::{Drawn, drawn};
use super::{Findings, Wanted};
use crate::drive::kind::is_svg;

/// The file without what it tells of its maker.
pub const CLEAN: &str = "clean";
/// The small picture.
pub const SMALL: &str = "small.webp";
/// The widest and highest picture that is read, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// The most pixels that are read.
const MAX_PIXELS: u64 = 64 * 1024 * 1024;
/// The most that is read of a drawing, in bytes.
const MAX_TEXT_BYTES: u64 = 8 * 1024 * 1024;
/// What reading a picture may hold, in bytes.
const MAX_PICTURE_BYTES: u64 = 400 * 1024 * 1024;
/// What the process may hold beside the program itself, in bytes.
const MAX_MEMORY_BYTES: u64 = 768 * 1024 * 1024;
/// How long it may compute, in seconds.
const MAX_CPU_SECONDS: u64 = 15;
/// The largest file that it may write, in bytes.
const MAX_WRITTEN_BYTES: u64 = 300 * 1024 * 1024;
const MAX_OPEN_FILES: u64 = 16;
/// Of small pictures, 0 to 100.
const QUALITY: f32 = 77.0;

/// Widest and highest a picture may be made, in pixels; it isn't made larger.
fn bounds(wanted: Wanted) -> (u32, u32) {
    match wanted {
        Wanted::Upload | Wanted::Still => (498, 422),
        Wanted::Avatar => (u32::MAX, 320),
        Wanted::Emoji => (u32::MAX, 128),
        Wanted::Preview => (200, 200),
    }
}

/// The command: the file, the directory for what is made of it, and what is wanted.
pub fn run(picture: &Path, made: &Path, wanted: &str) -> ExitCode {
    match bind().and_then(|()| look(picture, made, wanted)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// From here on there is little memory and time.
fn bind() -> io::Result<()> {
    let held = held_bytes()?;
    let limits = [
        (Resource::RLIMIT_AS, held + MAX_MEMORY_BYTES),
        (Resource::RLIMIT_CPU, MAX_CPU_SECONDS),
        (Resource::RLIMIT_FSIZE, MAX_WRITTEN_BYTES),
        (Resource::RLIMIT_NOFILE, MAX_OPEN_FILES),
        (Resource::RLIMIT_CORE, 0),
    ];
    for (resource, most) in limits {
        setrlimit(resource, most, most)?;
    }
    Ok(())
}

/// What the program itself holds, before it has done anything.
fn held_bytes() -> io::Result<u64> {
    const PAGE_BYTES: u64 = 4096;
    let pages = fs::read_to_string("/proc/self/statm")?;
    let pages = pages.split_whitespace().next().and_then(|pages| pages.parse::<u64>().ok());
    Ok(pages.unwrap_or_default() * PAGE_BYTES)
}

fn look(picture: &Path, made: &Path, wanted: &str) -> io::Result<()> {
    let wanted: Wanted = serde_json::from_value(wanted.into()).map_err(io::Error::other)?;
    if wanted == Wanted::Upload
        && let Some(clean) = cleaned(&fs::read(picture)?)
    {
        fs::write(made.join(CLEAN), clean)?;
    }
    let (findings, small) = read(picture, wanted).map_err(io::Error::other)?;
    fs::write(made.join(SMALL), small)?;
    let said = serde_json::to_vec(&findings).map_err(io::Error::other)?;
    io::stdout().write_all(&said)
}

/// What can be wrong with a picture.
pub type Unread = Box<dyn std::error::Error + Send + Sync>;

fn read(picture: &Path, wanted: Wanted) -> Result<(Findings, Vec<u8>), Unread> {
    let mut file = BufReader::new(fs::File::open(picture)?);
    if is_svg(file.fill_buf()?) {
        let mut text = Vec::new();
        file.take(MAX_TEXT_BYTES).read_to_end(&mut text)?;
        let Drawn { picture, width, height } = drawn(&text)?;
        let blurhash = (wanted == Wanted::Upload).then(|| blurred(&picture, Orientation::NoTransforms));
        let findings = Findings { width, height, orientation: Orientation::NoTransforms.to_exif(), blurhash };
        return Ok((findings, encoded(&shrunk(picture, bounds(wanted)))?));
    }
    let mut reader = ImageReader::new(file).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_PICTURE_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err("too many pixels".into());
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let picture = DynamicImage::from_decoder(decoder)?;
    let (widest, highest) = bounds(wanted);
    let turned = is_turned(orientation);
    let within = if turned { (highest, widest) } else { (widest, highest) };
    let blurhash = (wanted == Wanted::Upload).then(|| blurred(&picture, orientation));
    let mut small = shrunk(picture, within);
    small.apply_orientation(orientation);
    let (width, height) = if turned { (height, width) } else { (width, height) };
    let orientation = orientation.to_exif();
    Ok((Findings { width, height, orientation, blurhash }, encoded(&small)?))
}

fn is_turned(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

fn shrunk(picture: DynamicImage, (widest, highest): (u32, u32)) -> DynamicImage {
    if picture.width() <= widest && picture.height() <= highest {
        return picture;
    }
    picture.thumbnail(widest.min(MAX_SIDE), highest.min(MAX_SIDE))
}

fn encoded(picture: &DynamicImage) -> Result<Vec<u8>, Unread> {
    let pixels = picture.to_rgba8();
    let encoder = webp::Encoder::from_rgba(&pixels, pixels.width(), pixels.height());
    let encoded = encoder.encode_simple(false, QUALITY).map_err(|error| format!("{error:?}"))?;
    Ok(encoded.to_vec())
}

/// The file without what it tells of its maker: where, when and with what it was made, and comments. None
/// when it tells nothing, or is of a kind that nobody looks into. How it has to be turned stays.
fn cleaned(bytes: &[u8]) -> Option<Vec<u8>> {
    let original = Bytes::copy_from_slice(bytes);
    let mut picture = DynImage::from_bytes(original).ok().flatten()?;
    let orientation = picture.exif().as_deref().and_then(turned_by);
    let mut tells = picture.exif().is_some();
    match &mut picture {
        DynImage::Jpeg(jpeg) => {
            let before = jpeg.segments().len();
            jpeg.segments_mut().retain(|segment| !TELLING_SEGMENTS.contains(&segment.marker()));
            tells |= jpeg.segments().len() != before;
        }
        DynImage::Png(png) => {
            let before = png.chunks().len();
            png.chunks_mut().retain(|chunk| !TELLING_CHUNKS.contains(&chunk.kind()));
            tells |= png.chunks().len() != before;
        }
        DynImage::WebP(webp) => {
            tells |= webp.has_chunk(*b"XMP ");
            webp.remove_chunks_by_id(*b"XMP ");
            webp.remove_chunks_by_id(*b"EXIF");
        }
    }
    if !tells {
        return None;
    }
    picture.set_exif(orientation.filter(|orientation| *orientation > 1).map(only_turned));
    let mut clean = Vec::with_capacity(bytes.len());
    picture.encoder().write_to(&mut clean).ok()?;
    Some(clean)
}

/// EXIF and XMP, IPTC, and comments; not colours.
const TELLING_SEGMENTS: [u8; 3] = [0xE1, 0xED, 0xFE];
const TELLING_CHUNKS: [[u8; 4]; 5] = [*b"eXIf", *b"tEXt", *b"zTXt", *b"iTXt", *b"tIME"];

fn turned_by(exif: &[u8]) -> Option<u8> {
    Some(Orientation::from_exif_chunk(exif)?.to_exif())
}

/// EXIF that says nothing but how a picture has to be turned.
fn only_turned(orientation: u8) -> Bytes {
    let mut exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0]);
    Bytes::from(exif)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn picture(width: u32, height: u32) -> DynamicImage {
        DynamicImage::ImageRgb8(image::RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([x as u8, y as u8, 9])
        }))
    }

    fn jpeg(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture(width, height).write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    /// A picture that says where it was made and that it lies on its side.
    fn telling() -> Vec<u8> {
        let mut with = DynImage::from_bytes(Bytes::from(jpeg(60, 40))).unwrap().unwrap();
        let mut exif = only_turned(6).to_vec();
        exif.extend_from_slice(b"GPS 35.0 N");
        with.set_exif(Some(Bytes::from(exif)));
        let mut bytes = Vec::new();
        with.encoder().write_to(&mut bytes).unwrap();
        bytes
    }

    fn looked(bytes: &[u8], wanted: Wanted) -> Result<(Findings, DynamicImage), Unread> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("picture");
        fs::write(&path, bytes).unwrap();
        let (findings, small) = read(&path, wanted)?;
        Ok((findings, image::load_from_memory(&small).unwrap()))
    }

    #[test]
    fn a_picture_is_made_small_and_blurred() {
        let (findings, small) = looked(&jpeg(1_000, 500), Wanted::Upload).unwrap();
        assert_eq!((findings.width, findings.height, findings.orientation), (1_000, 500, 1));
        assert_eq!((small.width(), small.height()), (498, 249));
        assert!(findings.blurhash.is_some_and(|hash| hash.starts_with('e')));
        let (_, small) = looked(&jpeg(20, 10), Wanted::Upload).unwrap();
        assert_eq!((small.width(), small.height()), (20, 10), "it isn't made larger");
        let (_, small) = looked(&jpeg(1_000, 500), Wanted::Emoji).unwrap();
        assert_eq!((small.width(), small.height()), (256, 128));
    }

    #[test]
    fn what_a_picture_tells_of_its_maker_is_taken_out_and_it_stays_upright() {
        let telling = telling();
        assert!(telling.windows(3).any(|bytes| bytes == b"GPS"));
        let clean = cleaned(&telling).unwrap();
        assert!(!clean.windows(3).any(|bytes| bytes == b"GPS"));
        for bytes in [&telling, &clean] {
            let (findings, small) = looked(bytes, Wanted::Upload).unwrap();
            assert_eq!((findings.width, findings.height, findings.orientation), (40, 60, 6));
            assert_eq!((small.width(), small.height()), (40, 60));
        }
        assert_eq!(cleaned(&jpeg(4, 4)), None);
        assert_eq!(cleaned(b"no picture"), None);
        assert_eq!(cleaned(&clean).map(|again| again == clean), Some(true));
    }

    #[test]
    fn what_is_too_large_or_broken_is_not_read() {
        // A head that promises more than anybody holds.
        for side in [MAX_SIDE, MAX_SIDE + 1, u32::MAX / 4] {
            let mut bomb = Vec::new();
            let mut encoder = png::Encoder::new(&mut bomb, side, side);
            encoder.set_color(png::ColorType::Rgb);
            drop(encoder.write_header().unwrap());
            assert!(looked(&bomb, Wanted::Upload).is_err(), "{side}");
        }
        let whole = jpeg(100, 100);
        for broken in [&whole[..20], b"", b"<svg "] {
            assert!(looked(broken, Wanted::Upload).is_err());
        }
    }
}
