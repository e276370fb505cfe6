import type { ContainerConfig } from '../machine/container-config.ts'
import { machineEnvironment } from '../machine/environment.ts'
import type { Assignment } from '../machine/machine.ts'
import type { EnvField, EnvFrom, MachineProcess, MachineSecret } from '../machine/process-config.ts'
import { processName } from './containers-of.ts'

/**
 * What the program of one container finds in its environment: the machine's `env`, the app's secrets or only those that the
 * container names, its own `env` and `env_from`; and what the platform says, which nothing replaces.
 */
export function containerEnvironment(
  assignment: Assignment,
  container: Pick<ContainerConfig, 'name' | 'image' | 'env' | 'secrets' | 'env_from'>,
  known: {
    readonly secrets?: Readonly<Record<string, string>>
    readonly publicIp?: string
  } = {},
): Readonly<Record<string, string>> {
  const app = known.secrets ?? {}
  const program = processOf(assignment, container.name)
  const only = program === null ? container.secrets !== undefined : program.ignore_app_secrets
  const named = secretsNamed(program?.secrets ?? container.secrets ?? [], app)
  const { PRIMARY_REGION, ...platform } = machineEnvironment(
    { ...assignment, config: { ...assignment.config, image: container.image, env: {} } },
    known.publicIp === undefined ? {} : { publicIp: known.publicIp },
  )
  return {
    ...(PRIMARY_REGION === undefined ? {} : { PRIMARY_REGION }),
    ...assignment.config.env,
    ...(only ? {} : app),
    ...container.env,
    ...named,
    ...fieldsOf(assignment, container),
    ...platform,
  }
}

function processOf({ config }: Assignment, name: string): MachineProcess | null {
  if ((config.containers ?? []).length > 0) return null
  return (config.processes ?? []).find((_, n) => processName(n) === name) ?? null
}

/** One that the app does not have is left out: it may be set later. */
function secretsNamed(
  secrets: readonly MachineSecret[],
  app: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  return Object.fromEntries(
    secrets.flatMap(({ env_var, name }) => {
      const value = app[name]
      return value === undefined ? [] : [[env_var, value]]
    }),
  )
}

function fieldsOf(
  assignment: Assignment,
  { env_from, image }: { readonly env_from: readonly EnvFrom[]; readonly image: string },
): Readonly<Record<string, string>> {
  const fields: Readonly<Record<EnvField, string>> = {
    id: assignment.id,
    version: assignment.instanceId,
    app_name: assignment.app,
    private_ip: assignment.privateIpv6,
    region: assignment.region,
    image,
  }
  return Object.fromEntries(env_from.map(({ env_var, field_ref }) => [env_var, fields[field_ref]]))
}
