#include "csentencepiece.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <string_view>
#include <vector>

struct CSPModel {
  sentencepiece::SentencePieceProcessor processor;
};

namespace {

void report(const char *reason, char *error, size_t size) {
  if (error == nullptr || size == 0) return;
  const size_t length = std::min(std::strlen(reason), size - 1);
  std::memcpy(error, reason, length);
  error[length] = 0;
}

/// Runs `body`, which returns its result, and turns every exception into a reason and `failure`.
template <typename Result, typename Body>
Result guarded(Result failure, char *error, size_t size, Body body) {
  try {
    return body();
  } catch (const std::exception &exception) {
    report(exception.what(), error, size);
  } catch (...) {
    report("unknown failure of libsentencepiece", error, size);
  }
  return failure;
}

}  // namespace

CSPModel *csp_load(const uint8_t *bytes, size_t size, char *error, size_t error_size) {
  return guarded<CSPModel *>(nullptr, error, error_size, [&]() -> CSPModel * {
    auto model = std::make_unique<CSPModel>();
    const auto status =
        model->processor.LoadFromSerializedProto(std::string_view(reinterpret_cast<const char *>(bytes), size));
    if (!status.ok()) {
      report(status.error_message(), error, error_size);
      return nullptr;
    }
    return model.release();
  });
}

void csp_free(CSPModel *model) {
  guarded<int>(0, nullptr, 0, [&] {
    delete model;
    return 0;
  });
}

int32_t csp_piece_count(const CSPModel *model) {
  return guarded<int32_t>(0, nullptr, 0, [&] { return model->processor.GetPieceSize(); });
}

int32_t csp_eos_id(const CSPModel *model) {
  return guarded<int32_t>(-1, nullptr, 0, [&] { return model->processor.eos_id(); });
}

int64_t csp_encode(const CSPModel *model, const char *text, size_t size, int32_t *ids, size_t capacity, char *error,
                   size_t error_size) {
  return guarded<int64_t>(-1, error, error_size, [&]() -> int64_t {
    std::vector<int> found;
    const auto status = model->processor.Encode(std::string_view(text, size), &found);
    if (!status.ok()) {
      report(status.error_message(), error, error_size);
      return -1;
    }
    std::copy_n(found.begin(), std::min(capacity, found.size()), ids);
    return static_cast<int64_t>(found.size());
  });
}
