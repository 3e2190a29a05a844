// vgpu-load display: show two dumb buffers in turn, with a new cursor each. On virtio-gpu each turn is commands to the
// host; the cursor's transfer has a fence, which the driver waits for (virtio_gpu_cursor_plane_update).
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "load.h"

// drm.h and drm_mode.h of the kernel, which Debian's libc-dev leaves to libdrm
struct drm_mode_modeinfo {
	uint32_t clock;
	uint16_t hdisplay, hsync_start, hsync_end, htotal, hskew, vdisplay, vsync_start, vsync_end, vtotal, vscan;
	uint32_t vrefresh, flags, type;
	char name[32];
};
struct drm_mode_card_res {
	uint64_t fb_id_ptr, crtc_id_ptr, connector_id_ptr, encoder_id_ptr;
	uint32_t count_fbs, count_crtcs, count_connectors, count_encoders, min_width, max_width, min_height, max_height;
};
struct drm_mode_crtc {
	uint64_t set_connectors_ptr;
	uint32_t count_connectors, crtc_id, fb_id, x, y, gamma_size, mode_valid;
	struct drm_mode_modeinfo mode;
};
struct drm_mode_get_connector {
	uint64_t encoders_ptr, modes_ptr, props_ptr, prop_values_ptr;
	uint32_t count_modes, count_props, count_encoders, encoder_id, connector_id, connector_type, connector_type_id, connection;
	uint32_t mm_width, mm_height, subpixel, pad;
};
struct drm_mode_fb_cmd { uint32_t fb_id, width, height, pitch, bpp, depth, handle; };
struct drm_mode_create_dumb { uint32_t height, width, bpp, flags, handle, pitch; uint64_t size; };
struct drm_mode_cursor { uint32_t flags, crtc_id; int32_t x, y; uint32_t width, height, handle; };
#define DRM_IOCTL_MODE_CURSOR _IOWR('d', 0xa3, struct drm_mode_cursor)
#define DRM_MODE_CURSOR_BO 1
#define DRM_IOCTL_SET_MASTER _IO('d', 0x1e)
#define DRM_IOCTL_MODE_GETRESOURCES _IOWR('d', 0xa0, struct drm_mode_card_res)
#define DRM_IOCTL_MODE_SETCRTC _IOWR('d', 0xa2, struct drm_mode_crtc)
#define DRM_IOCTL_MODE_GETCONNECTOR _IOWR('d', 0xa7, struct drm_mode_get_connector)
#define DRM_IOCTL_MODE_ADDFB _IOWR('d', 0xae, struct drm_mode_fb_cmd)
#define DRM_IOCTL_MODE_CREATE_DUMB _IOWR('d', 0xb2, struct drm_mode_create_dumb)

static struct drm_mode_create_dumb dumb_buffer(int fd, uint32_t width, uint32_t height)
{
	struct drm_mode_create_dumb dumb = { .width = width, .height = height, .bpp = 32 };

	if (ioctl(fd, DRM_IOCTL_MODE_CREATE_DUMB, &dumb))
		die("create dumb");
	return dumb;
}

static uint32_t buffer(int fd, uint32_t width, uint32_t height)
{
	struct drm_mode_create_dumb dumb = dumb_buffer(fd, width, height);
	struct drm_mode_fb_cmd fb = { .width = width, .height = height, .bpp = 32, .depth = 24 };

	fb.pitch = dumb.pitch;
	fb.handle = dumb.handle;
	if (ioctl(fd, DRM_IOCTL_MODE_ADDFB, &fb))
		die("addfb");
	return fb.fb_id;
}

int display(const char *node, long flips)
{
	struct drm_mode_card_res res = { 0 };
	struct drm_mode_get_connector connector = { 0 };
	struct drm_mode_modeinfo modes[64];
	uint32_t crtcs[8], connectors[8], fb[2], cursors[2];
	int fd = open_node(node);
	uint64_t begun;
	long i;

	if (ioctl(fd, DRM_IOCTL_SET_MASTER, 0))
		die("set master");
	if (ioctl(fd, DRM_IOCTL_MODE_GETRESOURCES, &res))
		die("resources");
	if (!res.count_crtcs || res.count_crtcs > 8 || !res.count_connectors || res.count_connectors > 8) {
		fprintf(stderr, "%s: %u CRTCs and %u connectors, not 1 to 8 of each\n", node, res.count_crtcs, res.count_connectors);
		return 1;
	}
	res.count_fbs = res.count_encoders = 0;
	res.crtc_id_ptr = (uintptr_t)crtcs;
	res.connector_id_ptr = (uintptr_t)connectors;
	if (ioctl(fd, DRM_IOCTL_MODE_GETRESOURCES, &res))
		die("resources");
	connector.connector_id = connectors[0];
	if (ioctl(fd, DRM_IOCTL_MODE_GETCONNECTOR, &connector))
		die("connector");
	if (!connector.count_modes || connector.count_modes > 64) {
		fprintf(stderr, "%s: %u modes, not 1 to 64\n", node, connector.count_modes);
		return 1;
	}
	connector.count_props = connector.count_encoders = 0;
	connector.modes_ptr = (uintptr_t)modes;
	if (ioctl(fd, DRM_IOCTL_MODE_GETCONNECTOR, &connector))
		die("connector");
	fb[0] = buffer(fd, modes[0].hdisplay, modes[0].vdisplay);
	fb[1] = buffer(fd, modes[0].hdisplay, modes[0].vdisplay);
	cursors[0] = dumb_buffer(fd, 64, 64).handle;
	cursors[1] = dumb_buffer(fd, 64, 64).handle;
	begun = now();
	for (i = 0; i < flips; i++) {
		struct drm_mode_crtc crtc = {
			.set_connectors_ptr = (uintptr_t)connectors, .count_connectors = 1, .crtc_id = crtcs[0], .fb_id = fb[i % 2],
			.mode_valid = 1, .mode = modes[0],
		};

		if (ioctl(fd, DRM_IOCTL_MODE_SETCRTC, &crtc))
			die("setcrtc");
		struct drm_mode_cursor cursor = {
			.flags = DRM_MODE_CURSOR_BO, .crtc_id = crtcs[0], .width = 64, .height = 64, .handle = cursors[i % 2],
		};

		if (ioctl(fd, DRM_IOCTL_MODE_CURSOR, &cursor))
			die("cursor");
	}
	printf("display %s pid %d mode %s flips %ld us %lu\n", node, getpid(), modes[0].name, flips, (unsigned long)(now() - begun) / 1000);
	return 0;
}
