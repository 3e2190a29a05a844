// SPDX-License-Identifier: GPL-2.0
/* The tracepoints, which are there whichever identities are bound. */
#include "vgpu.h"
#define CREATE_TRACE_POINTS
#include "vgpu_trace_i915.h"
#include "vgpu_trace_amdgpu.h"
#if VGPU_XE_EVENTS
#include "vgpu_trace_xe.h"
#endif
