import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { SimResult } from './simulate.ts'

/** Simulates `count` seeds from `first` on all cores. Stops at the first that does not settle, unless it is to go on. */
export async function runSeeds(
  first: number,
  count: number,
  goOn = false,
): Promise<readonly SimResult[]> {
  const results: SimResult[] = []
  let next = first
  let failed = false

  async function work(): Promise<void> {
    const worker = new Worker(new URL('./sim-worker.ts', import.meta.url), {
      // What lives for one event only is most of what there is.
      resourceLimits: { maxYoungGenerationSizeMb: 64 },
    })
    try {
      while (next < first + count && !failed) {
        const result = await ask(worker, next++)
        if (failed) return
        failed = result.problems.length > 0 && !goOn
        results.push(result)
      }
    } finally {
      await worker.terminate()
    }
  }
  await Promise.all(Array.from({ length: Math.min(count, availableParallelism()) }, work))
  return results
}

/** Real time: a world that takes longer waits for something that never comes. */
const WORLD_MS_MAX = 600_000

function ask(worker: Worker, seed: number): Promise<SimResult> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => {
      end()
      reject(new Error(`seed ${seed} did not settle: no end after ${WORLD_MS_MAX / 1000} s`))
    }, WORLD_MS_MAX)
    const end = () => {
      clearTimeout(late)
      worker.off('message', heard)
      worker.off('error', broke)
    }
    const heard = (result: SimResult) => {
      end()
      resolve(result)
    }
    const broke = (cause: unknown) => {
      end()
      reject(new Error(`seed ${seed} did not settle: the simulator broke`, { cause }))
    }
    worker.once('message', heard)
    worker.once('error', broke)
    worker.postMessage(seed)
  })
}
