import type { Assignment } from './machine.ts'

/**
 * What the program of a machine finds in its environment: Fly's names (docs: machines/runtime-environment), the
 * configuration's `env` and the app's secrets. Secrets go before `env`; nothing replaces what the platform says.
 */
export function machineEnvironment(
  assignment: Assignment,
  known: {
    readonly secrets?: Readonly<Record<string, string>>
    readonly publicIp?: string
  } = {},
): Readonly<Record<string, string>> {
  const { config } = assignment
  return {
    ...(assignment.primaryRegion === null ? {} : { PRIMARY_REGION: assignment.primaryRegion }),
    ...config.env,
    ...known.secrets,
    FLY_APP_NAME: assignment.app,
    FLY_MACHINE_ID: assignment.id,
    FLY_ALLOC_ID: assignment.id,
    FLY_REGION: assignment.region,
    FLY_PRIVATE_IP: assignment.privateIpv6,
    ...(known.publicIp === undefined ? {} : { FLY_PUBLIC_IP: known.publicIp }),
    FLY_IMAGE_REF: config.image,
    FLY_MACHINE_VERSION: assignment.instanceId,
    FLY_PROCESS_GROUP: config.metadata['fly_process_group'] ?? 'app',
    FLY_VM_MEMORY_MB: String(config.guest.memory_mb),
  }
}
