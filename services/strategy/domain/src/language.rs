//! Languages: BCP 47 tags, and ISO 639 codes of two or three letters. They are compared by their primary subtag, in the
//! two-letter code if there is one, because `fra`, `fre` and `fr-CA` are all French.

/// Pairs of a three-letter code (ISO 639-3, or the bibliographic code of 639-2) and its two-letter code, sorted.
const SHORTER: &str = "aar:aa abk:ab afr:af aka:ak alb:sq amh:am ara:ar arg:an arm:hy asm:as ava:av ave:ae aym:ay aze:az \
    bak:ba bam:bm baq:eu bel:be ben:bn bis:bi bod:bo bos:bs bre:br bul:bg bur:my cat:ca ces:cs cha:ch che:ce chi:zh chu:cu \
    chv:cv cmn:zh cor:kw cos:co cre:cr cym:cy cze:cs dan:da deu:de div:dv dut:nl dzo:dz ell:el eng:en epo:eo est:et eus:eu \
    ewe:ee fao:fo fas:fa fij:fj fin:fi fra:fr fre:fr fry:fy ful:ff geo:ka ger:de gla:gd gle:ga glg:gl glv:gv gre:el grn:gn \
    guj:gu hat:ht hau:ha heb:he her:hz hin:hi hmo:ho hrv:hr hun:hu hye:hy ibo:ig ice:is ido:io iii:ii iku:iu ile:ie ina:ia \
    ind:id ipk:ik isl:is ita:it jav:jv jpn:ja kal:kl kan:kn kas:ks kat:ka kau:kr kaz:kk khm:km kik:ki kin:rw kir:ky kom:kv \
    kon:kg kor:ko kua:kj kur:ku lao:lo lat:la lav:lv lim:li lin:ln lit:lt ltz:lb lub:lu lug:lg mac:mk mah:mh mal:ml mao:mi \
    mar:mr may:ms mkd:mk mlg:mg mlt:mt mon:mn mri:mi msa:ms mya:my nau:na nav:nv nbl:nr nde:nd ndo:ng nep:ne nld:nl nno:nn \
    nob:nb nor:no nya:ny oci:oc oji:oj ori:or orm:om oss:os pan:pa per:fa pli:pi pol:pl por:pt pus:ps que:qu roh:rm ron:ro \
    rum:ro run:rn rus:ru sag:sg san:sa sin:si slk:sk slo:sk slv:sl sme:se smo:sm sna:sn snd:sd som:so sot:st spa:es sqi:sq \
    srd:sc srp:sr ssw:ss sun:su swa:sw swe:sv tah:ty tam:ta tat:tt tel:te tgk:tg tgl:tl tha:th tib:bo tir:ti ton:to tsn:tn \
    tso:ts tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur uzb:uz ven:ve vie:vi vol:vo wel:cy wln:wa wol:wo xho:xh yid:yi yor:yo \
    zha:za zho:zh zsm:ms zul:zu";

/// Returns the primary subtag in canonical form: in lower case, and as a two-letter code if the language has one.
#[must_use]
pub fn primary(tag: &str) -> String {
    let first = tag.trim().split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    SHORTER
        .split_ascii_whitespace()
        .find_map(|pair| pair.split_once(':').filter(|(long, _)| *long == first).map(|(_, short)| short.to_owned()))
        .unwrap_or(first)
}

/// Returns the primary subtags of a list in canonical form: sorted, without duplicates and empty tags.
#[must_use]
pub fn primaries<T: AsRef<str>>(tags: impl IntoIterator<Item = T>) -> Vec<String> {
    let mut out: Vec<String> =
        tags.into_iter().map(|tag| primary(tag.as_ref())).filter(|tag| !tag.is_empty()).collect();
    out.sort_unstable();
    out.dedup();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_language_is_one() {
        for (tag, primary_subtag) in [
            ("fr-CA", "fr"),
            ("fra", "fr"),
            ("FRE", "fr"),
            ("pt_BR", "pt"),
            ("gsw", "gsw"),
            ("cmn-Hans", "zh"),
            ("", ""),
        ] {
            assert_eq!(primary(tag), primary_subtag, "{tag}");
        }
        assert_eq!(primaries(["deu", "", "fr", "de-AT"]), ["de", "fr"]);
    }

    #[test]
    fn the_table_is_sorted_and_well_formed() {
        let pairs: Vec<_> =
            SHORTER.split_ascii_whitespace().map(|pair| pair.split_once(':').unwrap_or_default()).collect();
        assert!(pairs.iter().all(|(long, short)| long.len() == 3 && short.len() == 2));
        assert!(pairs.windows(2).all(|two| two[0].0 < two[1].0));
    }
}
