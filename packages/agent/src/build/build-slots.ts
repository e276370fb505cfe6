import { PlatformError } from '@roost/base'

/** At most `slots` at once; at most `waiting` wait, in the order in which they came. */
export interface BuildSlots {
  /** Resolves with a function that gives the slot back. `onPlace` hears how many are ahead, whenever that changes. */
  take(signal: AbortSignal, onPlace: (ahead: number) => void): Promise<() => void>
  /** True when nothing runs or waits. */
  isIdle(): boolean
}

export function createBuildSlots(limits: { slots: number; waiting: number }): BuildSlots {
  interface Waiter {
    readonly go: () => void
    readonly onPlace: (ahead: number) => void
  }
  const waiters: Waiter[] = []
  let running = 0
  const tellPlaces = () => {
    for (const [n, waiter] of waiters.entries()) waiter.onPlace(running + n)
  }
  const release = () => {
    let released = false
    return () => {
      if (released) return
      released = true
      const next = waiters.shift()
      if (next === undefined) running--
      else next.go()
      tellPlaces()
    }
  }
  return {
    isIdle: () => running === 0 && waiters.length === 0,
    take(signal, onPlace) {
      signal.throwIfAborted()
      if (running < limits.slots) {
        running++
        return Promise.resolve(release())
      }
      if (waiters.length >= limits.waiting)
        return Promise.reject(
          new PlatformError('unavailable', `${waiters.length} builds are waiting already`, {
            retry: 'later',
          }),
        )
      return new Promise((resolve, reject) => {
        const leave = () => {
          const at = waiters.indexOf(waiter)
          if (at < 0) return
          waiters.splice(at, 1)
          tellPlaces()
          reject(signal.reason)
        }
        const waiter: Waiter = {
          onPlace,
          go: () => {
            signal.removeEventListener('abort', leave)
            resolve(release())
          },
        }
        waiters.push(waiter)
        signal.addEventListener('abort', leave, { once: true })
        onPlace(running + waiters.length - 1)
      })
    },
  }
}
