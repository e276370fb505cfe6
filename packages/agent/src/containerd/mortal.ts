import { PassThrough } from 'node:stream'

const COUNTED = new Set(['call', 'collect', 'duplex', 'makeNamespace', 'attach', 'detach'])
const STREAMS = new Set(['duplex', 'stream'])

/**
 * For tests: an agent's end by kill -9, as its engines see it. What goes `through` it answers until the given number of requests
 * have been made since `arm`, and then never again, though what was asked for last is done.
 */
export function mortal() {
  const state = { dead: false, left: Number.POSITIVE_INFINITY, asked: 0 }
  const silence = new Promise<never>(() => {})
  let die = () => {}
  const death = new Promise<'dead'>((resolve) => {
    die = () => {
      state.dead = true
      resolve('dead')
    }
  })
  const through = <T extends object>(part: T): T =>
    new Proxy(part, {
      get(target, name) {
        const value = Reflect.get(target, name, target)
        if (typeof value !== 'function') return value
        return (...args: unknown[]) => {
          const stream = STREAMS.has(String(name))
          if (!COUNTED.has(String(name))) return value.apply(target, args)
          if (state.dead) return stream ? new PassThrough({ objectMode: true }) : silence
          const last = --state.left === 0
          state.asked++
          const result = value.apply(target, args)
          if (stream) {
            if (!last) return result
            die()
            ;(result as PassThrough).on('error', () => {})
            return new PassThrough({ objectMode: true })
          }
          return (result as Promise<unknown>).then(
            (answer) => {
              if (last) die()
              return state.dead ? silence : answer
            },
            (error) => {
              if (last) die()
              if (state.dead) return silence
              throw error
            },
          )
        }
      },
    })
  return {
    through,
    death,
    isDead: () => state.dead,
    arm: (requests: number) => {
      state.left = requests
    },
  }
}
