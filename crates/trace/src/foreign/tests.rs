use super::*;

#[test]
fn kinds_are_told_apart_by_their_first_bytes() {
    let cases: [(&[u8], Option<Kind>); 13] = [
        (b"\x17\x08\x44tracing6\0\0\x08", Some(Kind::TraceDat)),
        (b"PERFILE2\x68\0\0\0", Some(Kind::PerfData)),
        (b"\x1f\x8b\x08\0\0", Some(Kind::Gzip)),
        (b"\x28\xb5\x2f\xfd\x04", Some(Kind::Zstd)),
        (b"{\"traceEvents\":[]}", Some(Kind::ChromeJson)),
        (b"[\n {\"name\":\"a\",\"ph\":\"B\"}]", Some(Kind::ChromeJson)),
        (b"{\"a\":1}", None),
        (b"# tracer: nop\n#\n", Some(Kind::Text)),
        (b"cpus=2\n", Some(Kind::Text)),
        // TracePacket with a trusted_packet_sequence_id (field 10); of a longer packet.
        (b"\x0a\x04\x50\x01\x18\x02", Some(Kind::Perfetto)),
        (b"\x0a\x80\x01\x50\x01\x18\x02", Some(Kind::Perfetto)),
        (b"  vgpu-load-194   [000]    18.286309898: drm_sched_job: x\n", Some(Kind::Text)),
        (b"\n\nhello\n", None),
    ];
    for (head, kind) in cases {
        assert_eq!(detect(head), kind, "{}", String::from_utf8_lossy(head));
    }
    assert_eq!(detect(&[]), None);
}
