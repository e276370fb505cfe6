import type { RecordKind, RecordValues } from '@roost/api'
import type { Instant, Revision } from '@roost/core'
import type { Kysely } from 'kysely'
import type { Schema } from './schema.ts'

/**
 * Where the server keeps everything. Queries are plain functions over a `Reader` or a `Tx`, one file per question, so
 * that several of them make one transaction.
 *
 * Inside of `work` never call the store again (it would wait for itself), and never wait for another program.
 */
export interface Store {
  /** All of it or, when `work` throws, nothing. One at a time. Those who wait for changes wake after it. */
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T>
  /** Sees one state throughout. */
  read<T>(work: (reader: Reader) => Promise<T>): Promise<T>
  /** After each transaction that published or touched something. Returns a function that ends it. */
  onChange(heard: (change: Change) => void): () => void
  /** When a write was last refused because of the disk or the file, and why. null: never since it was opened. */
  trouble(): StoreTrouble | null
  size(): StoreSize
  /** Gives back to the file system what is no longer used. To be called now and then; takes milliseconds. */
  tidy(): Promise<void>
  close(): Promise<void>
}

export interface StoreTrouble {
  readonly code: 'disk_full' | 'unavailable'
  readonly message: string
  readonly since: Instant
  readonly lastAt: Instant
  /** A write has worked since. */
  readonly over: boolean
}

export interface StoreSize {
  /** `:memory:` or a path. */
  readonly file: string
  readonly bytes: number
  /** Of the write-ahead log beside it. */
  readonly walBytes: number
}

export interface Reader {
  readonly db: Kysely<Schema>
  /**
   * The answer to `question` as it was worked out before, if nothing has been written since; else from `work`, which asks only
   * `db`. For what is asked at each lap. Nobody may change an answer: others get the same.
   */
  kept<T>(question: string, work: () => Promise<T>): Promise<T>
}

export interface Tx extends Reader {
  /**
   * What agents or edges must hear: writes the record with a new revision, and returns that. A record that says what it said
   * already keeps its revision. `null`: the object is gone.
   */
  publish<K extends RecordKind>(
    kind: K,
    id: string,
    value: RecordValues[K] | null,
  ): Promise<Revision>
  /** Wakes those who wait for a change of something that no agent or edge hears, such as `release/shop/3`. */
  touch(key: string): void
}

export interface Change {
  /** `machine/3d8d…`, `assignment/3d8d…`, `host/…`, `app/shop`, `settings/settings`, and what was touched. */
  readonly keys: ReadonlySet<string>
}
