import { parentPort } from 'node:worker_threads'
import { simulate } from './simulate.ts'

// Nobody reads the stacks of errors that are thrown on purpose, and they are most of an error's cost.
Error.stackTraceLimit = 0

/** One world after another, each from the seed that it is sent. */
parentPort?.on('message', (seed: number) => {
  void simulate(seed).then((result) => parentPort?.postMessage(result))
})
