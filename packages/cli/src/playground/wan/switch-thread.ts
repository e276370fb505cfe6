import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import type { Link } from './links.ts'
import { createSwitch, type SwitchPort } from './switch-loop.ts'

/**
 * The thread that moves frames. It never returns to the event loop: messages are fetched by hand when the bell rings, and
 * each is answered with the counters, which also says that it is in force.
 */
export interface SwitchThreadData {
  readonly ports: readonly SwitchPort[]
  readonly bell: number
}
export type ToSwitch =
  | { readonly kind: 'links'; readonly links: readonly (readonly Link[])[] }
  | { readonly kind: 'counters' }
  | { readonly kind: 'stop' }

const { ports, bell } = workerData as SwitchThreadData
const port = parentPort
if (port === null) throw new Error('this is a worker thread of the WAN')
const running = { now: true }

const theSwitch = createSwitch(
  ports,
  bell,
  () => {
    for (
      let got = receiveMessageOnPort(port);
      got !== undefined;
      got = receiveMessageOnPort(port)
    ) {
      const message = got.message as ToSwitch
      if (message.kind === 'links') theSwitch.setLinks(message.links)
      if (message.kind === 'stop') running.now = false
      port.postMessage({ ...theSwitch.counters })
    }
  },
  Math.random,
)
port.postMessage({ ...theSwitch.counters })
while (running.now) theSwitch.turn()
port.close()
