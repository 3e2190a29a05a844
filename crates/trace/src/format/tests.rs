use super::*;

/// `events/gpu_scheduler/drm_sched_job_run/format` of Linux 7.2.
const RUN: &str = "name: drm_sched_job_run\nID: 1201\nformat:\n\
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
\tfield:__data_loc char[] name;\toffset:8;\tsize:4;\tsigned:0;\n\
\tfield:u32 job_count;\toffset:12;\tsize:4;\tsigned:0;\n\
\tfield:int hw_job_count;\toffset:16;\tsize:4;\tsigned:1;\n\
\tfield:__data_loc char[] dev;\toffset:20;\tsize:4;\tsigned:0;\n\
\tfield:u64 fence_context;\toffset:24;\tsize:8;\tsigned:0;\n\
\tfield:u64 fence_seqno;\toffset:32;\tsize:8;\tsigned:0;\n\
\tfield:u64 client_id;\toffset:40;\tsize:8;\tsigned:0;\n\n\
print fmt: \"dev=%s, field:no field;\"\n";

#[test]
fn fields_are_found_by_name() {
    let format = EventFormat::parse("gpu_scheduler", RUN).unwrap();
    assert_eq!((format.name.as_str(), format.id, format.fields.len()), ("drm_sched_job_run", 1201, 11));
    let name = format.field("name").unwrap();
    assert_eq!((name.offset, name.size, name.kind), (8, 4, FieldKind::DataLoc));
    let pid = format.field("common_pid").unwrap();
    assert_eq!((pid.offset, pid.size, pid.is_signed, pid.kind), (4, 4, true, FieldKind::Number));
    assert!(format.field("no").is_none(), "the text for printing is not read");
}

#[test]
fn declarations_of_all_forms() {
    let field = |line: &str| Field::parse(line).unwrap();
    let arrays = field("field:char comm[16];\toffset:8;\tsize:16;\tsigned:0;");
    assert_eq!((arrays.name.as_str(), arrays.kind), ("comm", FieldKind::Array));
    let pointer = field("field:const char * name;\toffset:16;\tsize:8;\tsigned:0;");
    assert_eq!((pointer.name.as_str(), pointer.kind), ("name", FieldKind::TextPointer));
    let tight = field("field:const char *name;\toffset:16;\tsize:8;\tsigned:0;");
    assert_eq!((tight.name.as_str(), tight.kind), ("name", FieldKind::TextPointer));
    let plain = field("field:struct dma_fence * fence;\toffset:16;\tsize:8;\tsigned:0;");
    assert_eq!((plain.name.as_str(), plain.kind), ("fence", FieldKind::Number));
    let relative = field("field:__rel_loc char[] msg;\toffset:8;\tsize:4;\tsigned:1;");
    assert_eq!((relative.name.as_str(), relative.kind), ("msg", FieldKind::RelLoc));
    let sized = field("field:unsigned long args[6];\toffset:16;\tsize:48;\tsigned:0;");
    assert_eq!((sized.name.as_str(), sized.kind, sized.size), ("args", FieldKind::Array, 48));
}

#[test]
fn written_and_read_back_it_is_the_same() {
    let format = EventFormat::parse("gpu_scheduler", RUN).unwrap();
    assert_eq!(EventFormat::parse("gpu_scheduler", &format.to_text()).unwrap(), format);
}

#[test]
fn what_is_missing_is_said_with_its_line() {
    assert_eq!(EventFormat::parse("s", "ID: 7\n").unwrap_err().to_string(), "line 1: it has no line `name:`");
    assert_eq!(EventFormat::parse("s", "name: x\n").unwrap_err().to_string(), "line 1: it has no line `ID:`");
    let no_offset = EventFormat::parse("s", "name: x\nID: 7\n\tfield:int a;\tsize:4;\n").unwrap_err();
    assert_eq!(no_offset.to_string(), "line 3: a field without declaration, offset or size");
}
