import { PlatformError } from '@roost/base'
import type { Runtime } from '../runtime.ts'
import type { DiskWatch } from './disk-watch.ts'
import { isNoSpace } from './no-space.ts'
import { type Reserve, withReserve } from './reserve.ts'

/**
 * A runtime that fails for want of room in words that say which disk and what to do, and never for good. What needs but a few
 * blocks (a start, a stop, a removal) takes them from what was held back.
 */
export function createRoomyRuntime(options: {
  readonly runtime: Runtime
  readonly disks: DiskWatch
  readonly reserves: readonly Reserve[]
  /** Somebody had no room: now is the time to collect. */
  readonly onFull: () => void
}): Runtime {
  const { runtime, disks, reserves, onFull } = options

  async function roomy<T>(doing: string, deed: () => Promise<T>): Promise<T> {
    try {
      return await deed()
    } catch (error) {
      if (!isNoSpace(error)) throw error
      onFull()
      throw asLater(await disks.explain(doing, error))
    }
  }
  const held = <T>(doing: string, deed: () => Promise<T>) =>
    roomy(doing, () => withReserve(reserves, deed))

  return {
    list: () => runtime.list(),
    look: (id) => runtime.look(id),
    onChange: (heard) => runtime.onChange(heard),
    pull: (image, signal) => roomy(`pull ${image.repository}`, () => runtime.pull(image, signal)),
    create: (spec, signal) => held(`create machine ${spec.id}`, () => runtime.create(spec, signal)),
    start: (id, environment, signal, files) =>
      held(`start machine ${id}`, () => runtime.start(id, environment, signal, files)),
    startContainer: (id, name, start, signal) =>
      held(`start container ${name} of machine ${id}`, () =>
        runtime.startContainer(id, name, start, signal),
      ),
    stopContainer: (id, name, how, signal) =>
      held(`stop container ${name} of machine ${id}`, () =>
        runtime.stopContainer(id, name, how, signal),
      ),
    suspend: (id) => runtime.suspend(id),
    resume: (id) => runtime.resume(id),
    stop: (id, how, signal) => held(`stop machine ${id}`, () => runtime.stop(id, how, signal)),
    signal: (id, signal) => runtime.signal(id, signal),
    openSession: (id, request, signal) => runtime.openSession(id, request, signal),
    exec: (id, request, signal) => runtime.exec(id, request, signal),
    remove: (id) => held(`remove machine ${id}`, () => runtime.remove(id)),
  }
}

/** Whatever an adapter thought of it: room comes again. */
function asLater(error: unknown): unknown {
  if (!(error instanceof PlatformError) || error.retry === 'later') return error
  return new PlatformError(error.code, error.message, { cause: error.cause, retry: 'later' })
}
