/**
 * Debian ships the seccomp profile that container tools agree on, as conditions over capabilities and architectures.
 * A runtime spec wants the outcome of those conditions.
 */
export interface SeccompProfile {
  readonly defaultAction: string
  readonly defaultErrnoRet?: number
  readonly archMap?: readonly {
    readonly architecture: string
    readonly subArchitectures?: readonly string[] | null
  }[]
  readonly syscalls: readonly SeccompRule[]
}

interface SeccompRule {
  readonly names: readonly string[]
  readonly action: string
  readonly args?: readonly SeccompArg[] | null
  readonly errnoRet?: number
  readonly includes?: SeccompCondition
  readonly excludes?: SeccompCondition
}

interface SeccompArg {
  readonly index: number
  readonly value: number
  readonly valueTwo?: number
  readonly op: string
}

interface SeccompCondition {
  readonly caps?: readonly string[] | null
  readonly arches?: readonly string[] | null
  readonly minKernel?: string | null
}

export interface OciSeccomp {
  readonly defaultAction: string
  readonly defaultErrnoRet?: number
  readonly architectures: readonly string[]
  readonly syscalls: readonly {
    readonly names: readonly string[]
    readonly action: string
    readonly errnoRet?: number
    readonly args?: readonly SeccompArg[]
  }[]
}

export function ociSeccomp(
  profile: SeccompProfile,
  host: {
    readonly architecture: string
    readonly capabilities: readonly string[]
    readonly kernel: string
    /** Whether programs for 32 bits may run too. Each further architecture costs as much as all else of a start's filter. */
    readonly with32Bit: boolean
  },
): OciSeccomp {
  const holds = (condition: SeccompCondition): boolean =>
    (condition.caps ?? []).every((cap) => host.capabilities.includes(cap)) &&
    ((condition.arches ?? []).length === 0 ||
      (condition.arches ?? []).includes(host.architecture)) &&
    (!condition.minKernel || compareVersions(host.kernel, condition.minKernel) >= 0)
  const excluded = (condition: SeccompCondition): boolean =>
    (condition.caps ?? []).some((cap) => host.capabilities.includes(cap)) ||
    (condition.arches ?? []).includes(host.architecture) ||
    (!!condition.minKernel && compareVersions(host.kernel, condition.minKernel) >= 0)

  const arch = ARCHITECTURES[host.architecture]
  const mapped = profile.archMap?.find((entry) => entry.architecture === arch)
  return {
    defaultAction: profile.defaultAction,
    ...(profile.defaultErrnoRet === undefined ? {} : { defaultErrnoRet: profile.defaultErrnoRet }),
    architectures: mapped
      ? [mapped.architecture, ...(host.with32Bit ? (mapped.subArchitectures ?? []) : [])]
      : [],
    syscalls: profile.syscalls
      .filter((rule) => holds(rule.includes ?? {}) && !excluded(rule.excludes ?? {}))
      .map((rule) => ({
        names: rule.names,
        action: rule.action,
        ...(rule.errnoRet === undefined ? {} : { errnoRet: rule.errnoRet }),
        ...(rule.args && rule.args.length > 0 ? { args: rule.args } : {}),
      })),
  }
}

const ARCHITECTURES: Readonly<Record<string, string>> = {
  amd64: 'SCMP_ARCH_X86_64',
  arm64: 'SCMP_ARCH_AARCH64',
}

function compareVersions(a: string, b: string): number {
  const numbers = (text: string) => text.split(/[.-]/).map((part) => Number.parseInt(part, 10) || 0)
  const [x, y] = [numbers(a), numbers(b)]
  for (let n = 0; n < 2; n++) {
    const difference = (x[n] ?? 0) - (y[n] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}
