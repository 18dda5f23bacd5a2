// What is expensive to set up, kept between calls: found again by the bytes that it was made from.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#ifndef _WIN32
#include <unistd.h>
#endif

namespace jaxprim {

// One part of what a set-up is made from: the numbers of an array, its sizes, or an attribute.
struct Part {
  const void* data;
  size_t bytes;
};

// A copy of all parts, each where numbers of any type may stand. A set-up is made from it, so it may refer to its operands.
class Bytes {
 public:
  explicit Bytes(const std::vector<Part>& parts) {
    size_t blocks = 0;
    for (const Part& part : parts) {
      places_.push_back({blocks, part.bytes});
      blocks += (part.bytes + sizeof(Block) - 1) / sizeof(Block);
    }
    blocks_.resize(blocks);
    for (size_t i = 0; i < parts.size(); ++i)
      if (parts[i].bytes != 0) std::memcpy(blocks_.data() + places_[i].block, parts[i].data, parts[i].bytes);
  }

  bool are(const std::vector<Part>& parts) const {
    if (parts.size() != places_.size()) return false;
    for (size_t i = 0; i < parts.size(); ++i)
      if (parts[i].bytes != places_[i].bytes) return false;
    for (size_t i = 0; i < parts.size(); ++i)
      if (parts[i].bytes != 0 && std::memcmp(blocks_.data() + places_[i].block, parts[i].data, parts[i].bytes) != 0)
        return false;
    return true;
  }

  template <class T>
  const T* part(size_t i) const {
    return reinterpret_cast<const T*>(blocks_.data() + places_[i].block);
  }

 private:
  struct alignas(64) Block {
    unsigned char bytes[64];
  };
  struct Place {
    size_t block, bytes;
  };

  std::vector<Place> places_;
  std::vector<Block> blocks_;
};

// What a set-up is found by. The hash finds, the bytes decide.
class Key {
 public:
  Key(std::initializer_list<Part> parts) : parts_(parts) {
    for (const Part& part : parts_) add(part);
  }

  uint64_t hash() const { return hash_; }

  const std::vector<Part>& parts() const { return parts_; }

 private:
  void add(const Part& part) {
    const char* from = static_cast<const char*>(part.data);
    size_t i = 0;
    uint64_t lanes[4] = {1, 2, 3, 4};  // a multiplication need not wait for the one before
    for (; i + 32 <= part.bytes; i += 32)
      for (int k = 0; k < 4; ++k) mix(lanes[k], from + i + 8 * k, 8);
    for (const uint64_t& lane : lanes) mix(hash_, &lane, 8);
    for (; i < part.bytes; i += 8) mix(hash_, from + i, std::min<size_t>(8, part.bytes - i));
    mix(hash_, &part.bytes, sizeof(part.bytes));
  }

  static void mix(uint64_t& hash, const void* from, size_t bytes) {
    uint64_t word = 0;
    std::memcpy(&word, from, bytes);
    hash = (hash ^ word) * 0xff51afd7ed558ccdull;
    hash ^= hash >> 32;
  }

  std::vector<Part> parts_;
  uint64_t hash_ = 0x9e3779b97f4a7c15ull;
};

// A set-up, with all that it was made from: it may refer to that.
template <class Made>
struct Owned {
  std::vector<std::shared_ptr<const void>> earlier;
  std::shared_ptr<Made> made;  // freed first
};

// `free` deletes it, on its device if it has one.
template <class Made, class Free, class... Arguments>
Owned<Made> make(std::vector<std::shared_ptr<const void>> earlier, Free free, Arguments&&... arguments) {
  constexpr bool fits = std::is_constructible_v<Made, Arguments...>;
  static_assert(fits, "the constructor must take what keep= names, in this order, and then the sizes of these arrays");
  static_assert(std::is_nothrow_destructible_v<Made>, "the destructor must be public and must not throw");
  if constexpr (fits)
    return {std::move(earlier), std::shared_ptr<Made>(new Made(std::forward<Arguments>(arguments)...), free)};
}

// The set-ups of one type. At most `most` that nobody uses are kept; the one that was used longest ago goes first.
// Constructors and destructors run outside of the lock.
template <class Made>
class Kept {
  struct Record {
    uint64_t hash;
    Bytes bytes;
    Owned<Made> owned;  // freed first

    template <class Make>
    Record(const Key& key, Make& make) : hash(key.hash()), bytes(key.parts()), owned(make(bytes)) {}
    Record(const Record&) = delete;
    bool is_of(const Key& key) const { return hash == key.hash() && bytes.are(key.parts()); }
  };
  struct Entry {
    std::unique_ptr<Record> record;
    int64_t epoch;
  };

 public:
  explicit Kept(int64_t most) : most_(static_cast<size_t>(most)) {}

  // The right to use a set-up, for one call and nobody else: few libraries let two threads use a plan at once. After an
  // exception the set-up is not used again, because nobody knows in which state it is.
  class Lease {
   public:
    Lease(Kept* kept, std::list<Entry> entry) : kept_(kept), entry_(std::move(entry)), unwinding_(std::uncaught_exceptions()) {}
    ~Lease() {
      if (std::uncaught_exceptions() == unwinding_)
        kept_->give_back(entry_);
      else
        kept_->drop(entry_);
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Made& operator*() { return *entry_.front().record->owned.made; }

   private:
    Kept* const kept_;
    std::list<Entry> entry_;
    const int unwinding_;
  };

  template <class Make>
  Lease take(const Key& key, Make make) {
    std::list<Entry> mine, gone;
    int64_t epoch;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      epoch = epoch_;
      for (auto at = idle_.begin(); at != idle_.end(); ++at)
        if (at->record->is_of(key)) {
          ++found_;
          mine.splice(mine.begin(), idle_, at);
          break;
        }
      if (mine.empty()) shrink(idle_, gone, most_ == 0 ? 0 : most_ - 1);  // room for the one that is made now
    }
    drop(gone);
    if (mine.empty()) {
      mine.push_back(Entry{std::make_unique<Record>(key, make), epoch});
      ++made_;
      ++alive_;
    }
    return Lease(this, std::move(mine));
  }

  // A set-up that others are made from. It is only read, so it is shared.
  template <class Make>
  std::shared_ptr<const Made> share(const Key& key, Make make) {
    if (auto known = find(key)) return known;
    auto made = std::make_unique<Record>(key, make);
    ++made_;
    ++alive_;
    std::shared_ptr<Record> mine(made.release(), [this](Record* each) {
      delete each;
      --alive_;
    });
    std::list<std::shared_ptr<Record>> gone;  // declared before the lock, so freed after it
    std::lock_guard<std::mutex> lock(mutex_);
    shared_.push_front(mine);
    shrink(shared_, gone, most_);
    return {mine, mine->owned.made.get()};
  }

  void counts(int64_t* to) const {
    to[0] = made_;
    to[1] = found_;
    to[2] = alive_;
  }

  void forget() {
    std::list<Entry> gone;
    std::list<std::shared_ptr<Record>> shared;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ++epoch_;  // those in use are freed when they come back
      gone.swap(idle_);
      shared.swap(shared_);
    }
    drop(gone);
  }

 private:
  std::shared_ptr<const Made> find(const Key& key) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto at = shared_.begin(); at != shared_.end(); ++at)
      if ((*at)->is_of(key)) {
        ++found_;
        shared_.splice(shared_.begin(), shared_, at);
        return {*at, (*at)->owned.made.get()};
      }
    return nullptr;
  }

  void give_back(std::list<Entry>& entry) {
    std::list<Entry> gone;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (entry.front().epoch == epoch_) idle_.splice(idle_.begin(), entry);
      shrink(idle_, gone, most_);
    }
    drop(gone);
    drop(entry);
  }

  void drop(std::list<Entry>& entries) {
    alive_ -= static_cast<int64_t>(entries.size());
    entries.clear();
  }

  template <class List>
  static void shrink(List& entries, List& gone, size_t most) {
    while (entries.size() > most) gone.splice(gone.begin(), entries, std::prev(entries.end()));
  }

  const size_t most_;
  std::mutex mutex_;
  std::list<Entry> idle_;  // the last used first
  std::list<std::shared_ptr<Record>> shared_;
  int64_t epoch_ = 0;
  std::atomic<int64_t> made_{0}, found_{0}, alive_{0};
};

// One cache for each process: after a fork, another thread may have held the lock, and a library need not bear that its
// handles are used on both sides. What the parent made is left alone. Nothing is freed when the process ends, as other
// threads may still run.
template <class Made>
class PerProcess {
 public:
  explicit PerProcess(int64_t most) : most_(most) {}

  Kept<Made>& get() {
    Own* own = own_.load(std::memory_order_acquire);
    while (own == nullptr || own->process != process()) {
      Own* made = new Own{process(), Kept<Made>(most_)};
      if (own_.compare_exchange_strong(own, made, std::memory_order_acq_rel)) return made->kept;
      delete made;
    }
    return own->kept;
  }

 private:
  struct Own {
    int64_t process;
    Kept<Made> kept;
  };

  static int64_t process() {
#ifdef _WIN32
    return 0;
#else
    return getpid();
#endif
  }

  const int64_t most_;
  std::atomic<Own*> own_{nullptr};
};

}  // namespace jaxprim
