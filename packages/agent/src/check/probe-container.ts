import { spawn } from 'node:child_process'
import { Duplex } from 'node:stream'
import { runCommand } from '@roost/base'
import type { CheckSpec, MachineId } from '@roost/core'
import type { Runtime } from '../runtime.ts'
import type { ContainerProbe } from './probe-checks.ts'
import { type ProbeResult, probeHttpOver, probeMachine } from './probe-machine.ts'

const BUSYBOX = '/bin/busybox'
const OUTPUT_BYTES_MAX = 1024

/**
 * The checks of a container look from where its machine is: its programs may listen on localhost alone. What listens on the
 * machine's address is reached without a detour.
 */
export function createContainerProbe(options: {
  readonly exec: Runtime['exec']
  readonly netnsPath: (id: MachineId) => string
}): ContainerProbe {
  const { exec, netnsPath } = options
  return async ({ id, address }, spec, container, signal) => {
    if (spec.type === 'exec') return probeExec(exec, id, spec, container, signal)
    const outside = await probeMachine(spec, address, signal)
    if (!outside.refused || signal.aborted) return outside
    const netns = netnsPath(id)
    if (spec.type === 'tcp') return (await listens(netns, spec.port, signal)) ? HEARD : outside
    const inside = tunnel(netns, spec.port)
    try {
      return await probeHttpOver(spec, inside.open, signal)
    } finally {
      inside.close()
    }
  }
}

const HEARD: ProbeResult = { passing: true, output: 'Success' }

async function listens(netns: string, port: number, signal: AbortSignal): Promise<boolean> {
  const argv = [
    'nsenter',
    `--net=${netns}`,
    BUSYBOX,
    'nc',
    '127.0.0.1',
    String(port),
    // What it is connected to is not read: that it is connected is all.
    ...['-e', '/bin/true'],
  ] as const
  try {
    await runCommand(argv, { signal })
    return true
  } catch {
    return false
  }
}

/** By its exit code. It is killed when its time is over. */
async function probeExec(
  exec: Runtime['exec'],
  id: MachineId,
  { command = [], timeout_ms: timeoutMs }: CheckSpec,
  container: string,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const limits = { timeoutMs, outputBytesMax: OUTPUT_BYTES_MAX }
  const { exitCode, stdout, stderr } = await exec(id, { container, command, ...limits }, signal)
  const said = Buffer.concat([stdout, stderr]).toString('utf8').replace(/\s+/g, ' ').trim()
  if (exitCode === 0) return { passing: true, output: said === '' ? 'Success' : said }
  const how = exitCode === null ? 'it took too long' : `exit code ${exitCode}`
  return { passing: false, output: said === '' ? how : `${how}: ${said}` }
}

/** A connection to a port on localhost of another network namespace, through a small program that lives in it. */
function tunnel(netns: string, port: number): { open: () => Duplex; close: () => void } {
  const ended = new AbortController()
  return {
    open() {
      const argv = [`--net=${netns}`, BUSYBOX, 'nc', '127.0.0.1', String(port)]
      const child = spawn('nsenter', argv, {
        stdio: ['pipe', 'pipe', 'ignore'],
        signal: ended.signal,
        killSignal: 'SIGKILL',
      })
      let heard = false
      // Not Duplex.from: that breaks when the program ends, before all that it said was read.
      const stream = new Duplex({
        read: () => void child.stdout.resume(),
        write: (chunk, _, done) => void child.stdin.write(chunk, () => done()),
        final: (done) => void child.stdin.end(() => done()),
      })
      child.stdout.on('data', (chunk: Buffer) => {
        heard = true
        if (!stream.push(chunk)) child.stdout.pause()
      })
      child.stdout.on('end', () => stream.push(null))
      child.on('error', () => stream.destroy())
      child.on('exit', (code) => {
        // It found nobody: as who connects directly would have been told.
        if (code !== 0 && !heard)
          stream.destroy(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }))
      })
      child.stdin.on('error', () => {})
      return stream
    },
    close: () => ended.abort(),
  }
}
