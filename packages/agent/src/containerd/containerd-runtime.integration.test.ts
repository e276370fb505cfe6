import { afterAll, beforeAll } from 'vitest'
import { conformanceConfig, describeRuntime } from '../runtime.conformance.ts'
import type { MachineSpec } from '../runtime.ts'
import { busyboxLayers, newMachineId, raiseTrialHost, type TrialHost } from './trial-host.ts'

const trial: { host: TrialHost | null } = { host: null }
const host = (): TrialHost => {
  if (!trial.host) throw new Error('no trial host')
  return trial.host
}
const slots = { next: 0 }

beforeAll(async () => {
  trial.host = await raiseTrialHost()
})
afterAll(async () => {
  await trial.host?.close()
})

const programs = {
  serves: ['sh', '-c', 'trap "exit 0" TERM; echo ready; while :; do sleep 0.05; done'],
  exits: ['sh', '-c', 'echo bye; exit 7'],
  deaf: ['sh', '-c', 'trap "" TERM INT HUP; while :; do sleep 0.05; done'],
  broken: ['/bin/nothing-here'],
}

async function specOf(program: readonly string[], user = ''): Promise<MachineSpec> {
  const image = await host().push('trial', { layers: busyboxLayers(), config: { User: user } })
  const id = newMachineId()
  const slot = slots.next++
  return {
    id,
    stamp: `1:${id}`,
    image,
    config: conformanceConfig({ init: { exec: program } }),
    hostname: id,
    ipv4: `10.210.4.${2 + slot}`,
    ipv6: `fdaa:0:1:1:${id.slice(2, 6)}:${id.slice(6, 10)}:${id.slice(10)}:2`,
  }
}

describeRuntime('containerd', async () => {
  const agent = await host().openAgent()
  const others: { close(): Promise<void> }[] = []
  return {
    runtime: agent.runtime,
    async reopen() {
      const other = await host().openAgent()
      others.push(other)
      return other.runtime
    },
    spec: (program) => specOf(programs[program]),
    async close() {
      await agent.close()
      for (const other of others) await other.close()
    },
  }
})
