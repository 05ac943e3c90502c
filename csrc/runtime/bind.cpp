#include "runtime/bind.h"

namespace vllm::binding {

Signature::Signature(const char* name, const char* const* names)
    : text_(concat(name, "(")), names_(names) {}

void Signature::add(const std::string& type) {
  text_ += concat(names_[count_++], ": ", type, ", ");
}

std::string Signature::returning(const std::string& type) const {
  return concat(text_, count_ > 0 ? "/" : "", ") -> ", type);
}

void refuse_count(const char* function, const char* const* names, Py_ssize_t count,
                  Py_ssize_t got) {
  const std::vector<std::string> all(names, names + count);
  throw Error(ErrorKind::type, concat(function, " takes ", count, " arguments (", join(all),
                                      "), by position; got ", got));
}

}  // namespace vllm::binding
