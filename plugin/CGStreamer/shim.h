/* GStreamer as a Swift module. Below are only the macros that do not import, under the prefix gsw_. */
#pragma once
#include <gst/app/gstappsink.h>
#include <gst/base/gstbasetransform.h>
#include <gst/base/gstpushsrc.h>
#include <gst/controller/controller.h>
#include <gst/gst.h>
#include <gst/video/video.h>

static inline GType gsw_type_string(void) { return G_TYPE_STRING; }
static inline GType gsw_type_boolean(void) { return G_TYPE_BOOLEAN; }
static inline GType gsw_type_int(void) { return G_TYPE_INT; }
static inline GType gsw_type_int64(void) { return G_TYPE_INT64; }
static inline GType gsw_type_uint64(void) { return G_TYPE_UINT64; }
static inline GType gsw_type_double(void) { return G_TYPE_DOUBLE; }
static inline GType gsw_type_structure(void) { return GST_TYPE_STRUCTURE; }
static inline GType gsw_type_array(void) { return GST_TYPE_ARRAY; }
static inline GQuark gsw_meta_transform_copy(void) { return _gst_meta_transform_copy; }

static const guint gsw_param_controllable = GST_PARAM_CONTROLLABLE;
static const guint gsw_param_playing = GST_PARAM_MUTABLE_PLAYING;
static const guint gsw_param_ready = GST_PARAM_MUTABLE_READY;
static const guint gsw_param_conditional = GST_PARAM_CONDITIONALLY_AVAILABLE;
static const guint gsw_param_read = G_PARAM_READABLE;
static const guint gsw_param_write = G_PARAM_WRITABLE;
static const guint gsw_param_explicit_notify = G_PARAM_EXPLICIT_NOTIFY;
static const GstClockTime gsw_clock_none = GST_CLOCK_TIME_NONE;
static const GstFlowReturn gsw_transform_dropped = GST_BASE_TRANSFORM_FLOW_DROPPED;

/* The plugin's entry points, implemented in Swift (GstVideoLoRA/Plugin.swift). */
const GstPluginDesc *gst_plugin_videolora_get_desc(void);
void gst_plugin_videolora_register(void);
