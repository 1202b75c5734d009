//! The blur of a picture: a few waves in some thirty letters, which apps draw until the picture is there.
//!
//! The letters are those that Misskey makes of the same picture, or an app that compares them would see two
//! pictures. So it is brought to the same size first, in the way of the library that Misskey does it with:
//! made smaller with three lobes of Lanczos, over boxes where it is much larger; made larger with cubics,
//! which lie half a pixel of the small picture too far. Both were found out by comparing.

use std::f64::consts::PI;

use image::metadata::Orientation;
use image::{DynamicImage, Rgba, RgbaImage};

/// Width and height within which it is looked at, in pixels.
const SIDE: u32 = 64;
/// Waves across and down, 1 to 9.
const WAVES: (usize, usize) = (5, 5);
/// How many times larger a picture has to be for boxes of its pixels to be taken together first.
const MUCH_LARGER: f64 = 4.0;
/// Reach of the Lanczos kernel, in pixels of what comes out.
const LOBES: f64 = 3.0;
const COLOURS: usize = 3;

/// Red, green, blue and alpha, 0 to 255 but for what a kernel overshoots.
type Pixel = [f64; COLOURS + 1];
type Rows = Vec<Vec<Pixel>>;

/// The letters.
pub fn blurred(picture: &DynamicImage, orientation: Orientation) -> String {
    let times = times(picture.width(), picture.height());
    let (across, down) = (side(picture.width(), times), side(picture.height(), times));
    let boxed = (times >= MUCH_LARGER).then(|| {
        let taken = (times / 2.0).floor();
        picture.thumbnail_exact(side(picture.width(), taken), side(picture.height(), taken))
    });
    let pixels = boxed.as_ref().unwrap_or(picture).to_rgba8();
    let times = self::times(pixels.width(), pixels.height());
    let rows = pixels.rows().map(|row| row.map(multiplied).collect()).collect();
    let rows = turned(&resized(&turned(&resized(&rows, across, times)), down, times));
    let made = RgbaImage::from_fn(across, down, |x, y| divided(rows[y as usize][x as usize]));
    let mut made = DynamicImage::ImageRgba8(made);
    made.apply_orientation(orientation);
    written(&waves(&made.into_rgba8()))
}

/// How many times larger a picture is than the one that is looked at.
fn times(width: u32, height: u32) -> f64 {
    f64::from(width.max(height)) / f64::from(SIDE)
}

/// In pixels, so many times smaller.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "lengths of pictures are bounded")]
fn side(length: u32, times: f64) -> u32 {
    (f64::from(length) / times).round().max(1.0) as u32
}

/// What can't be seen counts less.
fn multiplied(&Rgba([red, green, blue, alpha]): &Rgba<u8>) -> Pixel {
    let alpha = f64::from(alpha);
    let [red, green, blue] = [red, green, blue].map(|colour| rounded(f64::from(colour) * alpha / 255.0));
    [red, green, blue, alpha]
}

fn divided([red, green, blue, alpha]: Pixel) -> Rgba<u8> {
    let alpha = alpha.clamp(1.0, 255.0);
    let [red, green, blue] = [red, green, blue].map(|colour| byte(colour * 255.0 / alpha));
    Rgba([red, green, blue, byte(alpha)])
}

fn rounded(value: f64) -> f64 {
    (value + 0.5).floor()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held within a byte")]
fn byte(value: f64) -> u8 {
    rounded(value).clamp(0.0, 255.0) as u8
}

/// Columns for rows.
fn turned(rows: &Rows) -> Rows {
    let columns = rows.first().map_or(0, Vec::len);
    (0..columns).map(|x| rows.iter().map(|row| row[x]).collect()).collect()
}

/// Rows as wide as that, which is so many times smaller but for a part of a pixel.
fn resized(rows: &Rows, width: u32, times: f64) -> Rows {
    let from = u32::try_from(rows.first().map_or(0, Vec::len)).unwrap_or_default();
    if from == width {
        return rows.clone();
    }
    let columns: Vec<_> = (0..width).map(|x| weights(x, width, from, times)).collect();
    let summed = |row: &Vec<Pixel>, column: &Vec<(usize, f64)>| {
        let mut sum = [0.0; COLOURS + 1];
        for &(x, weight) in column {
            for (sum, colour) in sum.iter_mut().zip(row[x]) {
                *sum += weight * colour;
            }
        }
        let whole = sum.map(rounded);
        if times > 1.0 { whole.map(|colour| colour.clamp(0.0, 255.0)) } else { whole }
    };
    rows.iter().map(|row| columns.iter().map(|column| summed(row, column)).collect()).collect()
}

/// Which pixels of a row make the pixel `x` of a row that is `made` wide, and how much of each.
fn weights(x: u32, made: u32, width: u32, times: f64) -> Vec<(usize, f64)> {
    let (middle, reach, kernel): (f64, f64, fn(f64) -> f64) = if times > 1.0 {
        let left_out = (f64::from(width) - f64::from(made) * times) / 2.0;
        (left_out + (f64::from(x) + 0.5) * times - 0.5, LOBES * times, |x| sinc(x) * sinc(x / LOBES))
    } else {
        (f64::from(x) * times - 0.5, 2.0, cubic)
    };
    let last = i64::from(width) - 1;
    let per_pixel = times.max(1.0);
    let pixels = whole(middle - reach)..=whole(middle + reach) + 1;
    let mut found: Vec<_> = pixels
        .filter(|pixel| times <= 1.0 || (0..=last).contains(pixel))
        .map(|pixel| (pixel, distance(pixel, middle) / per_pixel))
        .filter(|(_, far)| far.abs() < reach / per_pixel)
        .map(|(pixel, far)| (usize::try_from(pixel.clamp(0, last)).unwrap_or_default(), kernel(far)))
        .collect();
    let all: f64 = found.iter().map(|(_, weight)| weight).sum();
    found.iter_mut().for_each(|(_, weight)| *weight /= all);
    found
}

#[allow(clippy::cast_possible_truncation, reason = "places within a picture")]
fn whole(place: f64) -> i64 {
    place.floor() as i64
}

#[allow(clippy::cast_precision_loss, reason = "places within a picture")]
fn distance(pixel: i64, middle: f64) -> f64 {
    pixel as f64 - middle
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// Catmull and Rom's.
fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 { (1.5 * x - 2.5) * x * x + 1.0 } else { ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0 }
}

type Wave = [f64; COLOURS];

/// How strong each wave is in each colour: the first is the average. As <https://blurha.sh> says.
fn waves(pixels: &RgbaImage) -> Vec<Wave> {
    let (width, height) = (f64::from(pixels.width()), f64::from(pixels.height()));
    let linear: Vec<f64> = (0..=u8::MAX).map(linear).collect();
    let mut waves = Vec::with_capacity(WAVES.0 * WAVES.1);
    for down in 0..WAVES.1 {
        for across in 0..WAVES.0 {
            let columns = cosines(across, pixels.width());
            let rows = cosines(down, pixels.height());
            let mut sum = [0.0; COLOURS];
            for (row, down) in pixels.rows().zip(&rows) {
                for (pixel, across) in row.zip(&columns) {
                    for (sum, colour) in sum.iter_mut().zip(pixel.0) {
                        *sum += across * down * linear[usize::from(colour)];
                    }
                }
            }
            let twice = if (across, down) == (0, 0) { 1.0 } else { 2.0 };
            waves.push(sum.map(|sum| twice * sum / (width * height)));
        }
    }
    waves
}

#[allow(clippy::cast_precision_loss, reason = "there are few waves")]
fn cosines(wave: usize, length: u32) -> Vec<f64> {
    let each = PI * wave as f64 / f64::from(length);
    (0..length).map(|place| (each * f64::from(place)).cos()).collect()
}

/// Light, of a colour as it is stored (sRGB).
fn linear(colour: u8) -> f64 {
    let colour = f64::from(colour) / 255.0;
    if colour <= 0.040_45 { colour / 12.92 } else { ((colour + 0.055) / 1.055).powf(2.4) }
}

fn stored(light: f64) -> u32 {
    let light = light.clamp(0.0, 1.0);
    let colour =
        if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(2.4_f64.recip()) - 0.055 };
    u32::from(byte(colour * 255.0))
}

/// The most steps of the strongest wave, and its strength at one step.
const STRENGTHS: (f64, f64) = (82.0, 166.0);
/// Steps of a colour in a wave.
const STEPS: u32 = 19;

fn written(waves: &[Wave]) -> String {
    let (average, waves) =
        waves.split_first().map_or(([0.0; COLOURS], waves), |(first, rest)| (*first, rest));
    let strongest = waves.iter().flatten().copied().fold(0.0, f64::max);
    let strength = step(strongest * STRENGTHS.1 - 0.5, STRENGTHS.0);
    let unit = f64::from(strength + 1) / STRENGTHS.1;
    let mut letters = String::new();
    let (across, down) = WAVES;
    letters.push(letter(u32::try_from(across - 1 + (down - 1) * 9).unwrap_or_default()));
    letters.push(letter(strength));
    push(&mut letters, average.into_iter().fold(0, |colours, light| colours << 8 | stored(light)), 4);
    for wave in waves {
        let steps = wave.map(|colour| {
            let root = (colour.abs() / unit).sqrt().copysign(colour);
            step(root * 9.0 + 9.5, f64::from(STEPS - 1))
        });
        push(&mut letters, steps.into_iter().fold(0, |number, step| number * STEPS + step), 2);
    }
    letters
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "held between 0 and 82")]
fn step(value: f64, most: f64) -> u32 {
    value.floor().clamp(0.0, most) as u32
}

const LETTERS: &[u8; 83] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~";

fn letter(number: u32) -> char {
    char::from(LETTERS[number as usize % LETTERS.len()])
}

fn push(letters: &mut String, number: u32, length: u32) {
    for place in (0..length).rev() {
        letters.push(letter(number / 83_u32.pow(place)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{RgbImage, Rgba};

    fn picture(width: u32, height: u32, (red, green, blue): (u32, u32, u32)) -> DynamicImage {
        DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([red + x * 2, green + y * 3, blue + x * y / 7].map(|colour| colour as u8))
        }))
    }

    fn blur(picture: &DynamicImage) -> String {
        blurred(picture, Orientation::NoTransforms)
    }

    #[test]
    fn the_letters_are_those_of_the_reference() {
        for (width, height, colours, letters) in [
            (64, 64, (200, 60, 60), "e?IYRJ|rsRFYJih*jXfRa%b0f|fRfTfPfNjEjwfPa^b0fgfTfNfTfQ"),
            (120, 40, (20, 90, 200), "eJH.KU2{,fkaO0z9S9jwf3a@frfTfKfJfN$:SJjmfUb2eefKfNfVfL"),
            (100, 80, (20, 200, 90), "epFi*}6}wvX4jqpqbEjrfhfOhTfhfOflfTpBbEjvfmfSfzfOfTfTfN"),
            (90, 90, (90, 20, 200), "eSK0%22wA^=N6mm2a*b1jda{djfBfPf3fMqBbJa]j:a^dQf6fMf4fT"),
            (32, 32, (10, 180, 250), "eX5Kj0T5j$bzfXlCfpfSfhfNdTf9fNf3fMl,fhfMfgfOd+f4fMf5fQ"),
            (20, 20, (7, 77, 177), "e43LU:KVo0b_fOhfapfPe@fRf~fPfRfQfRj3b0fQfRfQe.fRfRfQfQ"),
        ] {
            assert_eq!(blur(&picture(width, height, colours)), letters, "{width}x{height}");
        }
    }

    #[test]
    fn pictures_of_every_shape_have_one() {
        for (width, height) in [(1, 1), (1, 3_000), (3_000, 1), (2_000, 1_999), (65, 64)] {
            assert_eq!(blur(&picture(width, height, (9, 9, 9))).len(), 54);
        }
        let unseen = DynamicImage::ImageRgba8(RgbaImage::from_pixel(10, 10, Rgba([255, 255, 255, 0])));
        let black = DynamicImage::ImageRgba8(RgbaImage::from_pixel(10, 10, Rgba([0, 0, 0, 255])));
        assert_eq!(blur(&unseen), blur(&black));
    }

    #[test]
    fn it_lies_as_the_picture_does() {
        let picture = picture(64, 48, (200, 60, 60));
        let mut upright = picture.clone();
        upright.apply_orientation(Orientation::Rotate180);
        assert_eq!(blurred(&picture, Orientation::Rotate180), blur(&upright));
    }
}
