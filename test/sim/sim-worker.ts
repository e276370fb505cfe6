import { parentPort } from 'node:worker_threads'
import { simulate } from './simulate.ts'

/** One world after another, each from the seed that it is sent. */
parentPort?.on('message', (seed: number) => {
  void simulate(seed).then((result) => parentPort?.postMessage(result))
})
