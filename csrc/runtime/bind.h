// Python functions from C++ functions. Arguments and result are derived from the function's type,
// so that bindings.cpp only adds names:
//
//   const Tensor&           a tensor
//   const Tensor*           a tensor, or None for null
//   int64_t, double, bool   a number
//   const Struct*           an argument for each member (see members_of); null where the first of
//                           them is None
//
// A result is void, a number, a string, a struct (a tuple of its members), or a list of these.
#pragma once

#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "runtime/python_values.h"
#include "runtime/tensor_source.h"
#include "runtime/text.h"

namespace vllm {

// A tuple of pointers to the members of a struct, in their order in Python.
template <typename Struct>
constexpr std::tuple<> members_of{};

namespace binding {

template <typename Struct>
constexpr Py_ssize_t member_count =
    std::tuple_size_v<std::remove_const_t<decltype(members_of<Struct>)>>;

template <typename>
struct MemberType;
template <typename Struct, typename Type>
struct MemberType<Type Struct::*> {
  using type = Type;
};
template <typename Pointer>
using member_type = typename MemberType<Pointer>::type;

template <typename>
constexpr bool is_list = false;
template <typename Item>
constexpr bool is_list<std::vector<Item>> = true;

// The name of a type in the stub.
template <typename T>
std::string type_name() {
  if constexpr (std::is_void_v<T>) {
    return "None";
  } else if constexpr (std::is_same_v<T, Tensor>) {
    return "Tensor";
  } else if constexpr (std::is_same_v<T, bool>) {
    return "bool";
  } else if constexpr (std::is_integral_v<T>) {
    return "int";
  } else if constexpr (std::is_floating_point_v<T>) {
    return "float";
  } else if constexpr (std::is_convertible_v<T, std::string>) {
    return "str";
  } else if constexpr (is_list<T>) {
    return concat("List[", type_name<typename T::value_type>(), "]");
  } else {
    return std::apply(
        [](auto first, auto... rest) {
          return concat("Tuple[", type_name<member_type<decltype(first)>>(),
                        concat(", ", type_name<member_type<decltype(rest)>>())..., "]");
        },
        members_of<T>);
  }
}

// name(a: type, b: type, /) -> type
class Signature {
 public:
  // names: of all arguments.
  Signature(const char* name, const char* const* names);
  void add(const std::string& type);  // of the next argument
  std::string returning(const std::string& type) const;

 private:
  std::string text_;
  const char* const* names_;
  size_t count_ = 0;
};

// Throws Error(type): the number of arguments is wrong.
[[noreturn]] void refuse_count(const char* function, const char* const* names, Py_ssize_t count,
                               Py_ssize_t got);

// The objects of a call, by position, with their names.
class Call {
 public:
  Call(const char* function, const char* const* names, PyObject* objects)
      : function_(function), names_(names), objects_(objects) {}

  bool is_none(Py_ssize_t at) const { return object(at) == py_none; }

  template <typename T>
  [[gnu::always_inline]] T read(Py_ssize_t at) const {
    if constexpr (std::is_same_v<T, Tensor>) {
      return read_tensor(function_, names_[at], object(at));
    } else if constexpr (std::is_same_v<T, bool>) {
      return converted(at, to_bool, "true or false");
    } else if constexpr (std::is_same_v<T, int64_t>) {
      return converted(at, to_index, "an integer");
    } else if constexpr (std::is_same_v<T, double>) {
      return converted(at, to_number, "a number");
    } else {
      T value{};
      std::apply(
          [&](auto... member) {
            ((value.*member = read<member_type<decltype(member)>>(at++)), ...);
          },
          members_of<T>);
      return value;
    }
  }

 private:
  PyObject* object(Py_ssize_t at) const { return PyTuple_GetItem(objects_, at); }

  template <typename Value>
  Value converted(Py_ssize_t at, Value (*convert)(PyObject*), const char* takes) const {
    try {
      return convert(object(at));
    } catch (const PythonErrorSet&) {
      throw Error(ErrorKind::type, concat(function_, ": argument '", names_[at], "' takes ", takes,
                                          ": ", take_python_error()));
    }
  }

  const char* function_;
  const char* const* names_;
  PyObject* objects_;
};

// One parameter of a C++ function, for as long as it is called.
template <typename Parameter>
class Argument {
  using Value = std::remove_const_t<std::remove_reference_t<Parameter>>;

 public:
  static constexpr Py_ssize_t count = 1;  // of Python's arguments
  static void describe(Signature& signature) { signature.add(type_name<Value>()); }

  Argument(const Call& call, Py_ssize_t at) : value_(call.read<Value>(at)) {}
  const Value& get() const { return value_; }

 private:
  Value value_;
};

template <typename Value>
class Argument<const Value*> {
 public:
  static constexpr Py_ssize_t count = std::is_same_v<Value, Tensor> ? 1 : member_count<Value>;
  static void describe(Signature& signature) {
    if constexpr (std::is_same_v<Value, Tensor>) {
      signature.add("Optional[Tensor]");
    } else {
      const auto describe_member = [&](auto member) {
        using Type = member_type<decltype(member)>;
        constexpr bool is_tensor = std::is_same_v<Type, Tensor>;
        signature.add(is_tensor ? "Optional[Tensor]" : type_name<Type>());
      };
      std::apply([&](auto... member) { (describe_member(member), ...); }, members_of<Value>);
    }
  }

  Argument(const Call& call, Py_ssize_t at) {
    if (!call.is_none(at)) value_.emplace(call.read<Value>(at));
  }
  const Value* get() const { return value_ ? &*value_ : nullptr; }

 private:
  std::optional<Value> value_;
};

inline Ref to_python(const std::string& text) {
  return checked(PyUnicode_DecodeFSDefault(text.c_str()));
}

template <typename T>
Ref to_python(const T& value) {
  if constexpr (std::is_integral_v<T>) {
    return checked(PyLong_FromLongLong(value));
  } else if constexpr (is_list<T>) {
    Ref list = checked(PyList_New(0));
    for (const auto& item : value) {
      if (PyList_Append(list.get(), to_python(item).get()) != 0) throw PythonErrorSet{};
    }
    return list;
  } else {
    Ref tuple = checked(PyTuple_New(member_count<T>));
    Py_ssize_t at = 0;
    const auto add = [&](Ref item) { PyTuple_SetItem(tuple.get(), at++, item.release()); };
    std::apply([&](auto... member) { (add(to_python(value.*member)), ...); }, members_of<T>);
    return tuple;
  }
}

template <auto function>
struct Method;

template <typename Result, typename... Parameters, Result (*function)(Parameters...)>
struct Method<function> {
  static constexpr Py_ssize_t count = (Py_ssize_t{0} + ... + Argument<Parameters>::count);
  static inline const char* name;
  static inline const char* names[count + 1];
  static inline std::string doc;

  static std::string signature() {
    Signature text(name, names);
    (Argument<Parameters>::describe(text), ...);
    return text.returning(type_name<std::decay_t<Result>>());
  }

  // The function that Python calls.
  static PyObject* call(PyObject*, PyObject* objects) {
    try {
      const Py_ssize_t got = PyTuple_Size(objects);
      if (got != count) refuse_count(name, names, count, got);
      return convert<0>(Call(name, names, objects));
    } catch (...) {
      set_python_error();
      return nullptr;
    }
  }

 private:
  // Converts the parameters after `done`, from the object `at` on, one by one; then calls. Inlined,
  // like `read`: otherwise an op takes 10 to 25 ns more.
  template <Py_ssize_t at, typename... Done>
  [[gnu::always_inline]] static PyObject* convert(const Call& call, const Done&... done) {
    if constexpr (sizeof...(Done) < sizeof...(Parameters)) {
      using Next = Argument<std::tuple_element_t<sizeof...(Done), std::tuple<Parameters...>>>;
      const Next next(call, at);
      return convert<at + Next::count>(call, done..., next.get());
    } else if constexpr (std::is_void_v<Result>) {
      function(done...);
      Py_IncRef(py_none);
      return py_none;
    } else {
      return to_python(function(done...)).release();
    }
  }
};

}  // namespace binding

// A function of the module. names: of Python's positional arguments. about: the docstring after the
// signature.
template <auto function, typename... Names>
PyMethodDef bind(const char* name, const std::string& about, Names... names) {
  using Method = binding::Method<function>;
  static_assert(sizeof...(names) == Method::count, "a name for each of Python's arguments");
  Method::name = name;
  size_t at = 0;
  ((Method::names[at++] = names), ...);
  Method::doc = concat(Method::signature(), "\n\n", about);
  return {name, Method::call, METH_VARARGS, Method::doc.c_str()};
}

}  // namespace vllm
