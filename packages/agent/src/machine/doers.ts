import {
  type Assignment,
  containerConfigsOf,
  containerEnvironment,
  containersOf,
  type Deed,
  formatStamp,
  imageRepository,
  type MachineId,
  machineEnvironment,
  type Step,
} from '@roost/core'
import type { Environment, MachineSpec, Runtime } from '../runtime.ts'
import { fileContents } from './file-contents.ts'

export type Doable = Extract<Step, { readonly kind: Deed }>

/** How each step is done: idempotent, and without a result, since the next look is the result. */
export type Doers = {
  readonly [K in Deed]: (
    step: Extract<Step, { kind: K }>,
    machine: { readonly id: MachineId; readonly assignment: Assignment | null },
    signal: AbortSignal,
  ) => Promise<void>
}

/** Longer than this none of them may take; a stop has its own time on top. */
export const DEED_MS_MAX: Readonly<Record<Deed, number>> = {
  pull: 900_000,
  create: 120_000,
  start: 120_000,
  suspend: 30_000,
  resume: 30_000,
  stop: 30_000,
  startContainer: 120_000,
  stopContainer: 30_000,
  end: 30_000,
  remove: 120_000,
}

export function createDoers(options: {
  readonly runtime: Runtime
  readonly publicAddress: string | undefined
  readonly unseal: (sealed: string, assignment: Assignment) => Promise<Environment>
}): Doers {
  const { runtime, publicAddress, unseal } = options
  return {
    pull: ({ image, digest }, _, signal) =>
      runtime.pull({ repository: imageRepository(image), digest }, signal),

    create: async ({ stamp }, machine, signal) => {
      const { id, config, imageDigest, privateIpv4, privateIpv6 } = wanted(machine)
      const image = { repository: imageRepository(config.image), digest: imageDigest }
      const at = { hostname: config.dns?.hostname ?? id, ipv4: privateIpv4, ipv6: privateIpv6 }
      const several = containerImagesOf(wanted(machine))
      await runtime.create(
        { id, stamp: formatStamp(stamp), image, config, ...at, ...several },
        signal,
      )
    },

    start: async (_, machine, signal) => {
      const assignment = wanted(machine)
      const { id, sealedSecrets, config } = assignment
      const secrets = sealedSecrets === null ? {} : await unseal(sealedSecrets, assignment)
      const publicIp = publicAddress === undefined ? {} : { publicIp: publicAddress }
      const files = containersOf(config) ? [] : fileContents(config.files ?? [], secrets)
      const environment = machineEnvironment(assignment, { secrets, ...publicIp })
      await runtime.start(id, environment, signal, files)
    },

    startContainer: async ({ name }, machine, signal) => {
      const assignment = wanted(machine)
      const { id, sealedSecrets, config } = assignment
      const container = containerConfigsOf(config)?.find((one) => one.name === name)
      if (container === undefined) throw new Error(`machine ${id} has no container ${name}`)
      const secrets = sealedSecrets === null ? {} : await unseal(sealedSecrets, assignment)
      const publicIp = publicAddress === undefined ? {} : { publicIp: publicAddress }
      const environment = containerEnvironment(assignment, container, { secrets, ...publicIp })
      const files = fileContents(container.files, secrets)
      await runtime.startContainer(id, name, { environment, files }, signal)
    },

    stopContainer: ({ name, signal: with_, timeoutMs }, { id }, signal) =>
      runtime.stopContainer(id, name, { signal: with_, timeoutMs }, signal),

    end: ({ exit, timeoutMs }, machine, signal) => {
      const { signal: with_ } = wanted(machine).config.stop_config
      return runtime.stop(machine.id, { signal: with_, timeoutMs, exit }, signal)
    },

    suspend: (_, { id }) => runtime.suspend(id),

    resume: (_, { id }) => runtime.resume(id),

    stop: ({ signal: name, timeoutMs }, { id }, signal) =>
      runtime.stop(id, { signal: name, timeoutMs }, signal),

    remove: (_, { id }) => runtime.remove(id),
  }
}

/** By name. One whose digest nobody said has the machine's own image, as the programs of `processes` do. */
function containerImagesOf({
  config,
  containerDigests = {},
}: Assignment): Pick<MachineSpec, 'containerImages'> {
  const named = (config.containers ?? []).flatMap(({ name, image }) => {
    const digest = containerDigests[name]
    return digest === undefined ? [] : [[name, { repository: imageRepository(image), digest }]]
  })
  return named.length === 0 ? {} : { containerImages: Object.fromEntries(named) }
}

export function doStep(
  doers: Doers,
  step: Doable,
  machine: Parameters<Doers['pull']>[1],
  signal: AbortSignal,
): Promise<void> {
  // The compiler can't see that step and doer are of the same kind.
  return (doers[step.kind] as (...args: unknown[]) => Promise<void>)(step, machine, signal)
}

function wanted(machine: Parameters<Doers['pull']>[1]): Assignment {
  if (machine.assignment === null) throw new Error(`nobody wants machine ${machine.id}`)
  return machine.assignment
}
