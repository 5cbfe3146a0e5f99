// The host's own store of programs (winnow_storage): asked last, told what was compiled, and never
// trusted.
#include "CApiFixture.h"
#include <map>

namespace winnow::test {
namespace {

struct Store {
  std::mutex mutex;
  std::map<std::string, std::string> entries;
  int loads = 0;
  bool throws = false;

  winnow_storage interface() {
    winnow_storage storage{};
    storage.struct_size = sizeof(storage);
    storage.user = this;
    storage.load = [](void *user, const char *key, winnow_sink sink, void *context) {
      auto *self = static_cast<Store *>(user);
      const std::lock_guard<std::mutex> lock(self->mutex);
      ++self->loads;
      if (self->throws)
        throw std::runtime_error("unreachable");
      if (auto it = self->entries.find(key); it != self->entries.end())
        sink(context, it->second.data(), it->second.size());
    };
    storage.store = [](void *user, const char *key, const void *bytes, size_t size) {
      auto *self = static_cast<Store *>(user);
      const std::lock_guard<std::mutex> lock(self->mutex);
      self->entries[key].assign(static_cast<const char *>(bytes), size);
    };
    return storage;
  }
};

class CApiStorage : public CApi {
protected:
  /// Prepares by an engine of its own, with or without a cache on disk.
  winnow_status prepareAnew(Store &store, winnow_origin *origin, const char *cacheDir = "") {
    winnow_engine_destroy(engine);
    engine = nullptr;
    winnow_compiler hook = compiler.interface();
    winnow_storage storage = store.interface();
    winnow_engine_options options{};
    options.struct_size = sizeof(options);
    options.cache_dir = cacheDir;
    options.compiler = &hook;
    options.driver_path = kFake;
    options.storage = &storage;
    options.log = [](void *, const char *) {};
    EXPECT_EQ(winnow_engine_create(&options, &engine), WINNOW_OK) << winnow_last_error();
    winnow_spec one = spec("m");
    winnow_program *program = nullptr;
    const winnow_status status = winnow_prepare(engine, &one, 0, &program, origin);
    winnow_program_destroy(program);
    return status;
  }
};

TEST_F(CApiStorage, WhatOneEngineCompiledAnotherLoads) {
  Store store;
  winnow_origin origin = WINNOW_FROM_MEMORY;
  ASSERT_EQ(prepareAnew(store, &origin), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(origin, WINNOW_COMPILED);
  EXPECT_EQ(store.entries.count(sampleImage("m").key), 1u);
  ASSERT_EQ(prepareAnew(store, &origin), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(origin, WINNOW_FROM_DISK);
  EXPECT_EQ(compiler.builds, 1);
}

TEST_F(CApiStorage, TheCacheOnDiskComesFirst) {
  Store store;
  winnow_origin origin = WINNOW_FROM_MEMORY;
  ASSERT_EQ(prepareAnew(store, &origin, cache.c_str()), WINNOW_OK) << winnow_last_error();
  store.loads = 0;
  ASSERT_EQ(prepareAnew(store, &origin, cache.c_str()), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(origin, WINNOW_FROM_DISK);
  EXPECT_EQ(store.loads, 0);
}

TEST_F(CApiStorage, DamagedProgramsAreCompiledAnew) {
  Store store;
  winnow_origin origin = WINNOW_FROM_MEMORY;
  ASSERT_EQ(prepareAnew(store, &origin), WINNOW_OK) << winnow_last_error();
  store.entries.begin()->second.back() ^= 1;
  ASSERT_EQ(prepareAnew(store, &origin), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(origin, WINNOW_COMPILED);
  ASSERT_EQ(prepareAnew(store, &origin), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(origin, WINNOW_FROM_DISK); // the damaged one was replaced
}

TEST_F(CApiStorage, AStoreThatThrowsFailsTheCall) {
  Store store;
  store.throws = true;
  EXPECT_NE(prepareAnew(store, nullptr), WINNOW_OK);
  EXPECT_NE(std::string(winnow_last_error()).find("unreachable"), std::string::npos)
      << winnow_last_error();
}

} // namespace
} // namespace winnow::test
