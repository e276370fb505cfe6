import type { RuntimeMachine } from '../runtime.ts'

/**
 * One listing for all who ask at the same time. Nobody gets a listing that began before they asked: it might not show
 * what they have just done.
 */
export function createLook(
  list: () => Promise<readonly RuntimeMachine[]>,
): () => Promise<ReadonlyMap<string, RuntimeMachine>> {
  let running: Promise<unknown> | null = null
  let next: Promise<ReadonlyMap<string, RuntimeMachine>> | null = null

  const begin = () => {
    next = null
    const listing = list().then((all) => new Map(all.map((machine) => [machine.id, machine])))
    const ended = listing.then(
      () => {},
      () => {},
    )
    running = ended
    void ended.then(() => {
      if (running === ended) running = null
    })
    return listing
  }
  return () => {
    if (running === null) return begin()
    next ??= running.then(begin)
    return next
  }
}
