import {
  type AppName,
  type Assignment,
  type ContainerConfig,
  firstAssignment,
  type HostId,
  type InstanceId,
  type MachineConfig,
  type RegionCode,
} from '@roost/core'
import { busyboxLayers, newMachineId, type TrialHost } from '../containerd/trial-host.ts'
import { conformanceConfig, conformanceContainer } from '../runtime.conformance.ts'

/** For tests: machines of several programs on a trial host. */

const IMAGE = 'registry.internal/trial:1'
export const SERVES = 'trap "exit 0" TERM; while :; do sleep 0.05; done'

/** As the server would ask for it. `slot`: one of its own for each machine of the host. */
export async function containersAssignment(
  host: TrialHost,
  slot: number,
  change: Partial<MachineConfig>,
): Promise<Assignment> {
  const image = await host.push('registry.internal/trial', { layers: busyboxLayers() })
  const id = newMachineId()
  const config = conformanceConfig({ image: IMAGE, ...change })
  return {
    ...firstAssignment({
      id,
      name: 'quiet-sun-1',
      app: 'shop' as AppName,
      host: 'h1' as HostId,
      region: 'ams' as RegionCode,
      instanceId: `01${id.toUpperCase()}` as InstanceId,
      config,
      imageDigest: image.digest,
      privateIpv4: `10.210.${4 + (slot >> 7)}.${2 + (slot & 127)}`,
      privateIpv6: `fdaa:0:1:1:${id.slice(2, 6)}:${id.slice(6, 10)}:${id.slice(10)}:2`,
      sealedSecrets: 'sealed',
      primaryRegion: null,
      launch: true,
      cordoned: false,
    }),
    containerDigests: Object.fromEntries(
      (config.containers ?? []).map(({ name }) => [name, image.digest]),
    ),
  }
}

export const part = (
  name: string,
  script: string,
  change: Partial<ContainerConfig> = {},
): ContainerConfig =>
  conformanceContainer(
    { name, program: 'serves' },
    { image: IMAGE, exec: ['sh', '-c', script], ...change },
  )
